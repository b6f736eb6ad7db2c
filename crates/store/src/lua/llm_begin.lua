-- Asks for the right to make one call of a language model.
-- ARGV: now, the caller (five words; see caller_of), goal, call, provider, slots, ttl_ms,
--       session ('' is none), session_provider, session_host, session_log, step
-- Reply: granted left (of the budgets, in millionths of a dollar; '' is no budget)
--      | waiting reason           no slot for this caller; it is in the queue for 10 s
--      | held reason until_us     no call to this provider or for this goal
--      | overbudget reason which  which: goal | task
--      | fenced
-- Again: the same call of the same caller keeps its slot.
-- Cost: the calls under way and who waits.
local goal, id, provider, slots = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
local c = caller_of(2, goal)
if not c.current then return {'fenced'} end
local now = clock(ARGV[1])
call('SET', MOST, ARGV[10])
local key = 'task:' .. c.task
local use = slots_in_use(now)
local own = use.held[c.holder]
local again = own and own.call == id and own.number == c.number
-- One call at a time: an older one, or one of an older process, has ended.
if not again then free_slot(use, c.holder) end

local function refuse(reply)
  free_slot(use, c.holder)
  call('HDEL', WAITERS, c.holder)
  wake_waiters(use, now)
  return reply
end

local left, why = goal_budget_left(goal)
local task_left, task_why
if c.task ~= '' then task_left, task_why = task_budget_left(goal, c.task) end
if not again then
  local held = llm_held(provider, goal, c.holder, now)
  if held then return refuse({'held', held.reason, held.until_us}) end
  if left and left <= 0 then return refuse({'overbudget', why, 'goal'}) end
  if task_left and task_left <= 0 then return refuse({'overbudget', task_why, 'task'}) end
end

if not again then
  local before = waiter(call('HGET', WAITERS, c.holder))
  local since = before and before.number == c.number and before.goal == goal
    and before.refreshed + WAITER_TTL > now and before.since or now
  call('HSET', WAITERS, c.holder, table.concat({goal, c.number, int(since), int(now), id}, '|'))
  local place
  for i, w in ipairs(waiters_in_order(use, now)) do
    if w.holder == c.holder then place = i end
  end
  if place > slots - use.count then
    local reason = string.format('waits for an LLM slot: %d of %d in use, %d %s before it',
      use.count, slots, place - 1, place == 2 and 'waits' or 'wait')
    if c.task ~= '' then call('HSET', key, 'reason', reason) end
    wake_waiters(use, now)
    return {'waiting', reason}
  end
  call('HDEL', WAITERS, c.holder)
  call('DEL', 'llm:wake:' .. c.holder)
  use.count = use.count + 1
  use.of_goal[goal] = (use.of_goal[goal] or 0) + 1
end

keep_slot(c, goal, id, ARGV[16], now + ARGV[11] * 1000)
if c.task ~= '' then
  call('HDEL', key, 'reason')
  if ARGV[12] ~= '' then
    call('HSET', key, 'session', ARGV[12], 'session_provider', ARGV[13],
      'session_host', ARGV[14], 'session_log', ARGV[15])
  end
end
wake_waiters(use, now)
if task_left and (not left or task_left < left) then left = task_left end
return {'granted', left and int(math.max(left, 0)) or ''}
