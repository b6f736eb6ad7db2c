-- Adds what a process measured to what all agents have measured. A report counts once,
-- however often it is made: a process numbers its reports, and makes the next only when
-- the last one was answered.
-- ARGV: now, writer, the report's number, then name and count of each measure
-- Reply: added | already
clock(ARGV[1])
local told = 'agents:calls:told:' .. ARGV[2]
if tonumber(call('GET', told) or '0') >= tonumber(ARGV[3]) then return {'already'} end
-- So long after its last report nothing of a process is still on its way.
call('SET', told, ARGV[3], 'EX', 86400)
for i = 4, #ARGV, 2 do call('HINCRBY', 'agents:calls', ARGV[i], ARGV[i + 1]) end
return {'added'}
