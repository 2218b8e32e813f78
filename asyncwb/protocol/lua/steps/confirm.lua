-- confirm: a write behind those of an epoch, so that a WAITAOF or WAIT that follows speaks of them all.
-- ARGV  2 epoch
-- Reply 1; 0 if this server isn't in that epoch (any more)
-- @include keys
-- @include allow_at_maxmemory
-- @include clock
-- @include history
local EPOCH = ARGV[2]

local meta = redis.call('HMGET', META, 'identity', 'epoch')
if not is_present(meta[1]) or meta[2] ~= EPOCH then return 0 end
allow_at_maxmemory()
redis.call('HSET', META, 'confirmed', clock())
return 1
