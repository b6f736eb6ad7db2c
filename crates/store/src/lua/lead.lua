-- Takes or keeps the lead for a set of controllers, all or none.
-- The hash orchestrator:leader has a field per controller:
--   epoch beat holder pid start_time host
-- ARGV: now, holder, pid, start_time, host, then for each controller its name
--       and the pulse (epoch:beat) at which its holder was seen dead, or ''
-- Reply: held epoch | standby controller entry
-- Again: the holder keeps its epoch; its beat grows.
local now = clock(ARGV[1])
local holder = ARGV[2]
local key = 'orchestrator:leader'
local highest, mine = 0, true
for i = 6, #ARGV, 2 do
  local entry = call('HGET', key, ARGV[i])
  local epoch, beat, who = string.match(entry or '', '^(%d+) (%d+) (%S+)')
  -- What cannot be read leads for nobody: it is as if it were not there.
  if epoch then
    highest = math.max(highest, tonumber(epoch))
    if who ~= holder then
      mine = false
      -- '-' is a holder that resigned.
      if who ~= '-' and epoch .. ':' .. beat ~= ARGV[i + 1] then return {'standby', ARGV[i], entry} end
    end
  else
    mine = false
  end
end
local epoch = int(mine and highest or math.max(highest + 1, now))
for i = 6, #ARGV, 2 do
  local entry = call('HGET', key, ARGV[i])
  local beat = entry and mine and string.match(entry, '^%d+ (%d+)')
  call('HSET', key, ARGV[i], table.concat(
    {epoch, next_beat(beat, now), holder, ARGV[3], ARGV[4], ARGV[5]}, ' '))
  if not mine then emit('leader', 'controller', ARGV[i], 'epoch', epoch, 'holder', holder) end
end
return {'held', epoch}
