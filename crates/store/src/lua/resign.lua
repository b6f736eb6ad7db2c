-- Gives up the lead, so that another takes it at once. The epoch stays behind:
-- the next one must be higher.
-- ARGV: holder, then the controllers
-- Reply: resigned
for i = 2, #ARGV do
  local entry = call('HGET', 'orchestrator:leader', ARGV[i])
  if entry then
    local epoch, _, who = string.match(entry, '^(%d+) (%d+) (%S+)')
    if who == ARGV[1] then
      call('HSET', 'orchestrator:leader', ARGV[i], epoch .. ' 0 - 0 0 -')
    end
  end
end
return {'resigned'}
