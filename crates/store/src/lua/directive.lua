-- Applies one line of a heartbeat file and records, in the same step, that it
-- was: so each line counts once, wherever a crash falls.
-- ARGV: now, controller, leader_epoch, agent, goal, path, version (as read), mode, seen,
--       line, verb, argument, second argument
--   mode: append | replace: how `seen`, the text consumed so far, changes
--   verb: '' (only `seen` changes) | refused (argument: why) | pause | resume | reparse
--       | flush-memory | drop-task id | elevate id priority
-- Reply: applied answer | refused why | noted | stale (another version: read again) | fenced
if not leads(ARGV[2], ARGV[3]) then return {'fenced'} end
local agent, goal, path, mode, verb = ARGV[4], ARGV[5], ARGV[6], ARGV[8], ARGV[11]
local now = clock(ARGV[1])
local key, control = 'agent:' .. agent .. ':directives', 'agent:' .. agent .. ':control'
local d = fields(key, 'version', 'path', 'seen')
if d.version ~= ARGV[7] then return {'stale'} end

local verbs = {}

function verbs.refused() return false, ARGV[12] end

function verbs.pause()
  local was = call('HGET', control, 'paused') == '1'
  call('HSET', control, 'paused', '1')
  local r = fields('agent:' .. agent .. ':registered', 'goal', 'cap:role')
  if r.goal ~= '' then unset_idle(agent, r.goal, r['cap:role']) end
  return true, was and 'was paused already' or 'pauses after its present task, if any'
end

function verbs.resume()
  local was = call('HGET', control, 'paused') == '1'
  call('HSET', control, 'paused', '0')
  return true, was and 'works again' or 'was not paused'
end

function verbs.reparse()
  call('HINCRBY', control, 'reparses', 1)
  -- A goal that does not exist must not begin as half a record.
  if call('EXISTS', 'goal:' .. goal) == 1 then call('HINCRBY', 'goal:' .. goal, 'reparses', 1) end
  return true, 'instructions are read again'
end

verbs['flush-memory'] = function()
  call('HINCRBY', control, 'flushes', 1)
  call('DEL', 'agent:' .. agent .. ':memory')
  return true, 'memory is empty'
end

verbs['drop-task'] = function()
  local id, why = resolve(goal, ARGV[12])
  if not id then return false, why end
  local t = task_of(id)
  if t.status ~= 'running' then
    return false, id .. ' is ' .. t.status .. ', not running: there is nothing to drop'
  end
  local owner = t.owner
  hand_back(t, now, 'drop', 'dropped by a person')
  push_inbox(owner, 'fenced')
  return true, id .. ' was taken from ' .. owner .. ' and is ' .. t.status
end

function verbs.elevate()
  if tonumber(ARGV[13]) > MAX_PRIORITY then
    return false, 'priority ' .. ARGV[13] .. ' is too high: 0 to ' .. MAX_PRIORITY .. ' are allowed'
  end
  local id, why = resolve(goal, ARGV[12])
  if not id then return false, why end
  local t = task_of(id)
  if t.status == 'done' or t.status == 'failed' then
    return false, id .. ' is ' .. t.status .. ': its priority has no effect any more'
  end
  local old = t.priority
  t.priority = ARGV[13]
  call('HSET', 'task:' .. id, 'priority', t.priority)
  -- XX: only where it waits to be claimed.
  call('ZADD', ready_key(t), 'XX', score(t), id)
  return true, id .. ' has priority ' .. t.priority .. ' instead of ' .. old
end

local seen = ARGV[9]
if mode == 'append' and d.path == path then seen = d.seen .. seen end
call('HSET', key, 'path', path, 'seen', seen)
call('HINCRBY', key, 'version', 1)
if verb == '' then return {'noted'} end

local applied, answer = verbs[verb]()
local outcome = applied and 'applied' or 'refused'
local number = call('HINCRBY', key, outcome, 1)
call('RPUSH', key .. ':answers', cjson.encode({
  time = iso(now), line = ARGV[10], outcome = outcome, answer = answer}))
call('LTRIM', key .. ':answers', -ANSWERS_KEPT, -1)
emit('directive', 'agent', agent, 'line', ARGV[10], 'outcome', outcome, 'number', number,
  'answer', answer)
push_inbox(agent, 'control')
return {outcome, answer}
