-- Keeps the project's id in a Redis that may have lost it, and says so: then it has lost
-- everything else, too.
-- ARGV: now, id
-- Reply: kept | lost (it is there again) | other id (somebody made a new one meanwhile)
clock(ARGV[1])
local key = 'orchestrator:fleet'
local found = call('GET', key)
if found == ARGV[2] then return {'kept'} end
if found then return {'other', found} end
call('SET', key, ARGV[2])
emit('data-lost', 'fleet', ARGV[2])
alert('data-lost', ARGV[2], 'Redis has lost its data: all goals are planned anew and run from the start')
return {'lost'}
