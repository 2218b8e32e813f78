-- disown: notes a range of epochs whose versions the backend holds, although no history of this namespace made them.
-- ARGV  2 lowest  3 highest of these epochs
-- Reply 1
-- @include keys
-- @include allow_at_maxmemory
local LOWEST, HIGHEST = ARGV[2], ARGV[3]

allow_at_maxmemory()
local noted = redis.call('HGET', META, 'foreign') or ''
local range = LOWEST .. '-' .. HIGHEST
if not string.find(',' .. noted .. ',', ',' .. range .. ',', 1, true) then
  redis.call('HSET', META, 'foreign', noted == '' and range or noted .. ',' .. range)
end
return 1
