-- What the controllers say of an agent, for people.
-- ARGV: controller, leader_epoch, agent, kind (of the event; '' is none), then field
--       and value pairs ('' removes the field)
-- Reply: noted | fenced
if not leads(ARGV[1], ARGV[2]) then return {'fenced'} end
local agent = ARGV[3]
local key = 'agent:' .. agent .. ':status'
local told = {}
for i = 5, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    call('HDEL', key, ARGV[i])
  else
    call('HSET', key, ARGV[i], ARGV[i + 1])
    told[#told + 1] = ARGV[i]
    told[#told + 1] = ARGV[i + 1]
  end
end
call('SADD', 'agents', agent)
if ARGV[4] ~= '' then emit(ARGV[4], 'agent', agent, unpack(told)) end
return {'noted'}
