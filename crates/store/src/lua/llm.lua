-- Shared by the scripts that concern calls of language models. What stands in Redis:
--   llm:slots     holder -> call|goal|incarnation|expires_us|step; a planner's
--                 incarnation is its leader epoch
--   llm:waiters   holder -> goal|incarnation|since_us|refreshed_us|call
--   llm:most      how many slots there are, as the last caller said
--   llm:wake:<h>  list with at most one token: ask for the slot again
--   llm:holds     provider -> until_us|strikes|since_us|message
--   llm:seen      when somebody last looked at the slots, in microseconds

local SLOTS, WAITERS, MOST, HOLDS = 'llm:slots', 'llm:waiters', 'llm:most', 'llm:holds'
local SEEN = 'llm:seen'
-- Calls under way are renewed more often than that: where nobody looked for so long, or
-- looked later than now, the clock was set, or Redis was away. In microseconds.
local JUMP = 600000000
-- A waiter that did not ask for so long is gone, in microseconds.
local WAITER_TTL = 10000000
-- How long a wake token lives, in seconds.
local WAKE_TTL = 60
-- All callers of a provider begin again within so many seconds after a hold.
local MAX_STAGGER = 60

-- A clock that is set ends no call under way and keeps no dead one for longer: what was
-- written by it moves along.
local function follow_clock(now)
  local moved = now - (tonumber(call('GET', SEEN) or '') or now)
  call('SET', SEEN, int(now))
  if math.abs(moved) < JUMP then return end
  local function shift(key, shape, moving)
    local all = call('HGETALL', key)
    for i = 1, #all, 2 do
      local parts = {string.match(all[i + 1], shape)}
      for _, n in ipairs(moving) do
        if parts[n] then parts[n] = int(tonumber(parts[n]) + moved) end
      end
      if parts[1] then call('HSET', key, all[i], table.concat(parts, '|')) end
    end
  end
  shift(SLOTS, '^(.*)|([^|]*)|([^|]*)|(%d+)|([^|]*)$', {4})
  shift(WAITERS, '^([^|]*)|([^|]*)|(%d+)|(%d+)|(.*)$', {3, 4})
end

-- The calls under way: by holder, how many, and how many of each goal. Removes what
-- expired.
local function slots_in_use(now)
  follow_clock(now)
  local use = {held = {}, count = 0, of_goal = {}}
  local all = call('HGETALL', SLOTS)
  for i = 1, #all, 2 do
    local id, goal, number, expires, step =
      string.match(all[i + 1], '^(.*)|([^|]*)|([^|]*)|(%d+)|([^|]*)$')
    if expires and tonumber(expires) > now then
      use.held[all[i]] = {call = id, goal = goal, number = number, step = step}
      use.count = use.count + 1
      use.of_goal[goal] = (use.of_goal[goal] or 0) + 1
    else
      call('HDEL', SLOTS, all[i])
    end
  end
  return use
end

local function keep_slot(c, goal, id, step, expires)
  call('HSET', SLOTS, c.holder, table.concat({id, goal, c.number, int(expires), step}, '|'))
end

local function free_slot(use, holder)
  local slot = use.held[holder]
  if not slot then return end
  call('HDEL', SLOTS, holder)
  use.held[holder] = nil
  use.count = use.count - 1
  use.of_goal[slot.goal] = use.of_goal[slot.goal] - 1
end

local function waiter(entry)
  local goal, number, since, refreshed, id =
    string.match(entry or '', '^([^|]*)|([^|]*)|(%d+)|(%d+)|(.*)$')
  return refreshed and {goal = goal, number = number, since = tonumber(since),
    refreshed = tonumber(refreshed), call = id}
end

local function longest_first(a, b)
  if a.since ~= b.since then return a.since < b.since end
  return a.holder < b.holder
end

-- Who waits, in the order in which they get what is free: always the goal that then
-- holds the fewest, then who waits longest. Removes who is gone.
local function waiters_in_order(use, now)
  local order = {}
  local all = call('HGETALL', WAITERS)
  for i = 1, #all, 2 do
    local w = waiter(all[i + 1])
    if w and w.refreshed + WAITER_TTL > now then
      w.holder = all[i]
      order[#order + 1] = w
    else
      call('HDEL', WAITERS, all[i])
    end
  end
  table.sort(order, longest_first)
  local of_goal = {}
  for _, w in ipairs(order) do
    w.before = of_goal[w.goal] or use.of_goal[w.goal] or 0
    of_goal[w.goal] = w.before + 1
  end
  table.sort(order, function(a, b)
    if a.before ~= b.before then return a.before < b.before end
    return longest_first(a, b)
  end)
  return order
end

-- Tells those whose turn it is.
local function wake_waiters(use, now)
  local free = (tonumber(call('GET', MOST)) or 1) - use.count
  if free <= 0 or call('EXISTS', WAITERS) == 0 then return end
  for i, w in ipairs(waiters_in_order(use, now)) do
    if i > free then return end
    local list = 'llm:wake:' .. w.holder
    if call('LLEN', list) == 0 then call('RPUSH', list, 'slot') end
    call('EXPIRE', list, WAKE_TTL)
  end
end

-- A process of the agent is gone: so are its call and its place in the queue.
local function leave_llm(agent, now)
  local holder = 'agent:' .. agent
  local gone = call('HDEL', SLOTS, holder) + call('HDEL', WAITERS, holder)
  call('DEL', 'llm:wake:' .. holder)
  if gone > 0 then wake_waiters(slots_in_use(now), now) end
end

-- The caller that ARGV names from `from` on: kind (agent | planner), name (an agent's, a
-- controller's), incarnation or leader epoch, task ('' is none), epoch of the task.
-- `current` says whether it may act.
local function caller_of(from, goal)
  local c = {kind = ARGV[from], name = ARGV[from + 1], number = ARGV[from + 2],
    task = ARGV[from + 3], epoch = ARGV[from + 4]}
  if c.kind == 'planner' then
    c.holder = 'planner:' .. goal
    c.current = leads(c.name, c.number)
  else
    c.holder = 'agent:' .. c.name
    c.current = registration(c.name).incarnation == c.number and (c.task == ''
      or standing(task_of(c.task), c.name, c.number, c.epoch) == 'hold')
  end
  return c
end

-- ISO 8601 as microseconds; UTC where it names no zone; nil where it is something else.
local function parse_iso(text)
  local year, month, day, hour, minute, second, rest =
    string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):(%d%d)(.*)$')
  if not year then return nil end
  local fraction, zone = string.match(rest, '^%.(%d+)(.*)$')
  zone = zone or rest
  local sign, hours, minutes = string.match(zone, '^([+-])(%d%d):?(%d%d)$')
  if not sign and zone ~= '' and zone ~= 'Z' and zone ~= 'z' then return nil end
  month, day = tonumber(month), tonumber(day)
  if month < 1 or month > 12 or day < 1 or day > 31 then return nil end
  local y = tonumber(year) - (month <= 2 and 1 or 0)
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  local secs = (era * 146097 + doe - 719468) * 86400 + hour * 3600 + minute * 60 + second
  if sign then secs = secs - (sign == '+' and 1 or -1) * (hours * 3600 + minutes * 60) end
  return secs * 1000000 + math.floor(tonumber('0.' .. (fraction or '0')) * 1000000)
end

-- In dollars, with as many digits as it takes.
local function usd(micros)
  local digits = micros % 10000 == 0 and 2 or micros % 100 == 0 and 4 or 6
  return string.format('$%.' .. digits .. 'f', micros / 1000000)
end

local function stagger_window()
  return math.min(MAX_STAGGER, 2 * call('SCARD', 'agents')) * 1000000
end

-- So that not all begin in the same instant: a time of its own for each, always the same.
local function stagger(holder)
  local window = stagger_window()
  if window == 0 then return 0 end
  return tonumber(string.sub(redis.sha1hex(holder), 1, 8), 16) % window
end

-- What holds the provider; nil where nothing does. One that begins in the future was
-- written before the clock was set back, and its end is not to be believed either: the
-- next call finds out.
local function hold_of(provider, now)
  local entry = call('HGET', HOLDS, provider)
  local until_us, strikes, since, message =
    string.match(entry or '', '^(%d+)|(%d+)|(%d+)|(.*)$')
  if since and tonumber(since) > now + CLOCK_SLACK_US then
    call('HDEL', HOLDS, provider)
    return nil
  end
  return until_us and {until_us = tonumber(until_us), strikes = tonumber(strikes),
    since = tonumber(since), message = message}
end

-- Why `holder` may make no call to the provider or for the goal now, besides budgets:
-- {reason, until_us ('' is unknown)}, or nil.
local function llm_held(provider, goal, holder, now)
  local hold = hold_of(provider, now)
  local free = hold and hold.until_us + stagger(holder)
  if free and now < free then
    return {reason = provider .. ' is at its usage limit until ' .. iso(hold.until_us) .. ': '
      .. hold.message, until_us = int(free)}
  end
  local cap = call('GET', 'goal:' .. goal .. ':spending_cap_until')
  -- What llm_end.lua wrote there only tells of the provider's hold, which ends by itself.
  if not cap or cap == call('HGET', 'goal:' .. goal, 'cap_mirror') then return nil end
  local ends = parse_iso(cap)
  if ends and ends <= now then return nil end
  return {reason = goal .. ' may ask no model until ' .. cap .. ' (goal:' .. goal
    .. ':spending_cap_until)', until_us = ends and int(ends) or ''}
end

-- What is left of a goal's budget, or nil where it has none; and why nothing is.
local function goal_budget_left(goal)
  local budget = tonumber(call('HGET', 'goal:' .. goal, 'budget') or '')
  if not budget then return nil end
  local spent = tonumber(call('HGET', 'goal:' .. goal .. ':cost', 'usd_micros') or '0') or 0
  return budget - spent, goal .. ' has spent ' .. usd(spent) .. ' of its budget of ' .. usd(budget)
end

local function task_budget_left(goal, id)
  local spec = call('HGET', 'dag:' .. goal .. ':nodes', id)
  local budget = spec and tonumber(cjson.decode(spec).budget_micros)
  if not budget then return nil end
  local spent = tonumber(call('HGET', 'task:' .. id, 'cost') or '0') or 0
  return budget - spent, id .. ' has spent ' .. usd(spent) .. ' of its budget of ' .. usd(budget)
end

-- Why an agent may take only tasks that need no model; nil where it may take any.
local function held_for(agent, r, now)
  if r.provider == '' or r.provider == 'offline' then return nil end
  local held = llm_held(r.provider, r.goal, 'agent:' .. agent, now)
  if held then return held end
  local left, why = goal_budget_left(r.goal)
  if left and left <= 0 then return {reason = why, until_us = ''} end
  return nil
end
