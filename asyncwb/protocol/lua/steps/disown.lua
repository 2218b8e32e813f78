-- disown: notes that the versions of some epochs, which the backend holds, are of no history of this namespace.
-- ARGV  2 lowest  3 highest of these epochs
-- Reply 1
-- @include keys
-- @include allow_at_maxmemory
allow_at_maxmemory()
local noted = redis.call('HGET', META, 'foreign') or ''
local range = ARGV[2] .. '-' .. ARGV[3]
if not string.find(',' .. noted .. ',', ',' .. range .. ',', 1, true) then
  redis.call('HSET', META, 'foreign', noted == '' and range or noted .. ',' .. range)
end
return 1
