-- A new process takes the agent's name. Whatever an older one held is lost, and
-- whatever it still writes is fenced.
-- ARGV: now, agent, pid, host, start_time, role, goal, spec_hash, ttl_ms,
--       provider ('' and 'offline' are no model)
-- Reply: registered incarnation
-- Again: the same process gets the same incarnation.
local agent, pid, host, start = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now = clock(ARGV[1])
local key, status = 'agent:' .. agent .. ':registered', 'agent:' .. agent .. ':status'
local old = fields(key, 'pid', 'host', 'start_time', 'incarnation', 'goal', 'cap:role')
if old.pid == pid and old.host == host and old.start_time == start then
  return {'registered', old.incarnation}
end
lose_task_of(agent, now, 'its agent was replaced by a new process')
if old.goal ~= '' then unset_idle(agent, old.goal, old['cap:role']) end
leave_llm(agent, now)
-- Either may be gone; together they remember the highest.
local last = math.max(tonumber(call('HGET', status, 'incarnation') or '0'),
  tonumber(old.incarnation) or 0)
local incarnation = int(math.max(last + 1, now))
call('DEL', key)
call('HSET', key, 'pid', pid, 'timestamp', iso(now), 'cap:role', ARGV[6], 'host', host,
  'start_time', start, 'incarnation', incarnation, 'spec_hash', ARGV[8], 'goal', ARGV[7],
  'beat', 0, 'provider', ARGV[10])
call('SET', 'agent:' .. agent .. ':heartbeat', iso(now), 'PX', ARGV[9])
call('HSET', status, 'incarnation', incarnation)
call('SADD', 'agents', agent)
-- So that an older process of the name looks up and finds itself fenced.
push_inbox(agent, 'registered')
if old.goal ~= '' and (old.goal ~= ARGV[7] or old['cap:role'] ~= ARGV[6]) then
  pass_wake(old.goal, old['cap:role'])
end
emit('agent-register', 'agent', agent, 'incarnation', incarnation, 'pid', pid, 'host', host)
return {'registered', incarnation}
