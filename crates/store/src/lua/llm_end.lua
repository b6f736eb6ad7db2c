-- A call ended: adds up what it used up, holds its provider where it hit a usage limit,
-- and frees its slot. It counts once, and also where the caller is fenced by now: the
-- money is spent.
-- ARGV: now, the caller (five words; see caller_of), goal, call, provider, model ('' is
--       unknown), step, outcome, usd_micros ('' is unknown), input_tokens, output_tokens,
--       cache_read_tokens, cache_write_tokens, ms, prompt, limited ('1' or ''), until_us
--       ('' is unknown), message
-- Reply: ended | already

-- How far away a reset may be; the first and the longest hold where none is named. In
-- microseconds.
local MAX_HOLD = 35 * 86400 * 1000000
local FIRST_BACKOFF, MAX_BACKOFF = 15 * 1000000, 900 * 1000000

local goal, id, provider, model = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local cost = ARGV[13]
local c = caller_of(2, goal)
local now = clock(ARGV[1])
local use = slots_in_use(now)
if use.held[c.holder] and use.held[c.holder].call == id then
  free_slot(use, c.holder)
  wake_waiters(use, now)
end
if not call('SET', 'llm:call:' .. id, 1, 'NX', 'EX', 86400) then return {'already'} end

local function add(key, names)
  for name, value in pairs(names) do call('HINCRBY', key, name, value) end
end
local used = {calls = 1, usd_micros = cost == '' and 0 or cost, unpriced_calls = cost == '' and 1 or 0,
  input_tokens = ARGV[14], output_tokens = ARGV[15], cache_read_tokens = ARGV[16],
  cache_write_tokens = ARGV[17], ms = ARGV[18]}
add('goal:' .. goal .. ':cost', used)
if c.kind == 'agent' then add('agent:' .. c.name .. ':cost', used) end
if model ~= '' then
  add('model:' .. model .. ':cost', used)
  call('SADD', 'llm:models', model)
end
if c.task ~= '' and call('HEXISTS', 'task:' .. c.task, 'status') == 1 then
  add('task:' .. c.task, {cost = used.usd_micros, llm_calls = 1, llm_tokens_in = ARGV[14],
    llm_tokens_out = ARGV[15], llm_ms = ARGV[18]})
  -- Which prompt the result came of, or will.
  if ARGV[11] == 'execute' or ARGV[11] == 'review' then
    call('HSET', 'task:' .. c.task, 'prompt', ARGV[19])
  end
end
emit('llm-call', 'call', id, 'goal', goal, 'task', c.task,
  'agent', c.kind == 'agent' and c.name or '', 'epoch', c.epoch, 'step', ARGV[11],
  'provider', provider, 'model', model, 'outcome', ARGV[12], 'ms', ARGV[18],
  'usd_micros', cost, 'input_tokens', ARGV[14], 'output_tokens', ARGV[15],
  'cache_read_tokens', ARGV[16], 'cache_write_tokens', ARGV[17], 'prompt', ARGV[19])

-- For who reads `spending_cap_until`; llm_held() knows that it is only that. What a
-- person wrote there stays.
local function mirror(until_us)
  local key = 'goal:' .. goal
  if call('EXISTS', key) == 0 then return end
  local there = call('GET', key .. ':spending_cap_until')
  if there and there ~= call('HGET', key, 'cap_mirror') then return end
  call('SET', key .. ':spending_cap_until', iso(until_us),
    'PX', int(math.max(1, (until_us - now) / 1000)))
  call('HSET', key, 'cap_mirror', iso(until_us))
end

local hold = hold_of(provider, now)
if ARGV[20] == '1' then
  local in_force = hold and hold.until_us > now
  local strikes, ends = hold and hold.strikes or 0, tonumber(ARGV[21])
  if ends and ends > now then
    ends = math.min(ends, now + MAX_HOLD)
  elseif in_force then
    -- Of many calls that were under way only the first is a strike.
    ends = hold.until_us
  else
    ends = now + math.min(MAX_BACKOFF, FIRST_BACKOFF * 2 ^ math.min(strikes, 30))
    strikes = strikes + 1
  end
  if in_force then ends = math.max(ends, hold.until_us) end
  if not in_force or ends > hold.until_us then
    call('HSET', HOLDS, provider, table.concat({int(ends), strikes,
      int(in_force and hold.since or now), ARGV[22]}, '|'))
    emit('llm-hold', 'provider', provider, 'goal', goal, 'until', iso(ends), 'reason', ARGV[22])
    if not in_force then
      alert('llm-hold', provider, 'held until ' .. iso(ends) .. ': ' .. ARGV[22])
    end
  end
  mirror(ends)
elseif ARGV[12] == 'ok' and hold then
  if now >= hold.until_us + stagger_window() then
    call('HDEL', HOLDS, provider)
  elseif hold.strikes > 0 then
    call('HSET', HOLDS, provider,
      table.concat({int(hold.until_us), 0, int(hold.since), hold.message}, '|'))
  end
end
return {'ended'}
