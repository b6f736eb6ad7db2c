-- Shared by all scripts, which are functions of one library: Redis runs this text once, as it
-- is loaded. In front of it stand DIGEST, which ends the functions' names, and the generated
-- constants: LEGAL and STATES (the model's table of transitions, LEGAL[cause][from] is to, and
-- its states, as ' state ..'), EVENTS_KEPT, ERRORS_KEPT, ANSWERS_KEPT, INSTRUCTIONS_KEPT,
-- CLOCK_SLACK_US, MAX_LOSSES, MAX_PRIORITY and DEFAULT_MAX_ATTEMPTS.
--
-- Conventions: time is microseconds since the epoch; an absent value is ''
-- in arguments and replies; a reply is a list of strings whose first says what
-- came of it. Numbers beyond 14 digits must pass through int(), because Lua
-- would otherwise shorten them when it makes them text.

-- Of the present call: redis.call, which is not there while the library is loaded, and the
-- arguments.
local call, ARGV

local function int(n)
  -- Much the most frequent.
  if n == 1 then return '1' elseif n == -1 then return '-1' end
  return string.format('%.0f', n)
end

-- The time: Redis' own, or the one that a test gives. Never both.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

-- Seconds since the epoch as text up to the second, each worked out once: scripts write the
-- present, and what is a lease ahead of it, some thousand times a second.
local texts, texts_kept = {}, 0
local MOST_TEXTS = 64

local function second_text(secs)
  local rest = secs % 86400
  local z = (secs - rest) / 86400 + 719468
  local doe = z % 146097
  local era = (z - doe) / 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local s = rest % 60
  local m = (rest - s) / 60 % 60
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d', year, month, day,
    (rest - s - m * 60) / 3600, m, s)
end

local last_us, last_text

-- Microseconds as ISO 8601 in UTC; Redis' Lua has no os.date.
local function iso(us)
  if us == last_us then return last_text end
  local micros = us % 1000000
  local secs = (us - micros) / 1000000
  local text = texts[secs]
  if not text then
    if texts_kept == MOST_TEXTS then texts, texts_kept = {}, 0 end
    text = second_text(secs)
    texts[secs], texts_kept = text, texts_kept + 1
  end
  last_us, last_text = us, string.format('%s.%06dZ', text, micros)
  return last_text
end

local function emit(kind, ...)
  call('XADD', 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, ...)
end

-- Whether the caller still leads for this controller; see lead.lua. One that
-- resigned ('-') does not, although its epoch is the highest until the next.
local function leads(controller, epoch)
  local held = call('HGET', 'orchestrator:leader', controller)
  if not held then return false end
  local current, holder = string.match(held, '^(%d+) %d+ (%S+)')
  return current == epoch and holder ~= '-'
end

-- The beat after `last`. Whoever watches compares it with the one seen before, so none may
-- come twice: one that only counted up from a Redis restored from an older file would come
-- to what was seen already, and look as if it had stood still.
local function next_beat(last, now)
  return int(math.max((tonumber(last) or 0) + 1, now))
end

-- A hash's fields as a table with '' for what is absent. Where a step of a task reads them
-- it writes the table out itself: one that grows field by field takes longer than Redis does.
local function fields(key, ...)
  local values = call('HMGET', key, ...)
  local record, names = {}, {...}
  for i = 1, #names do record[names[i]] = values[i] or '' end
  return record
end

-- An empty table would otherwise become an object.
local function json_list(list)
  return #list == 0 and '[]' or cjson.encode(list)
end

local function alert(kind, subject, text)
  call('PUBLISH', 'alerts', cjson.encode({kind = kind, subject = subject, text = text}))
end

-- Writes field and value pairs, ARGV[from] onwards; '' removes the field. Returns the
-- pairs that say something, for an event.
local function note(key, from)
  local told = {}
  for i = from, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      call('HDEL', key, ARGV[i])
    else
      call('HSET', key, ARGV[i], ARGV[i + 1])
      told[#told + 1] = ARGV[i]
      told[#told + 1] = ARGV[i + 1]
    end
  end
  return told
end
