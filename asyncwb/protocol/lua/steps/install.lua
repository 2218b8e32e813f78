-- install: a new epoch, if server and meta are still what the client has read.
-- ARGV  2 identity of the server as read  3 meta's identity as read  4 meta's epoch as read  5 new epoch
--       6 layout  7 partitions  8 codec
-- Reply 1, or 0 if something changed
-- @include keys
-- @include allow_at_maxmemory
-- @include identity
local IDENTITY, NOTED_IDENTITY, NOTED_EPOCH, EPOCH = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local LAYOUT, PARTITIONS, CODEC = ARGV[6], ARGV[7], ARGV[8]

local meta = redis.call('HMGET', META, 'identity', 'epoch')
if identity() ~= IDENTITY or (meta[1] or '') ~= NOTED_IDENTITY or (meta[2] or '') ~= NOTED_EPOCH then return 0 end
-- Also at maxmemory: a full buffer that has restarted has to be readable.
allow_at_maxmemory()
redis.call('HSET', META, 'identity', IDENTITY, 'epoch', EPOCH, 'seq', 0, 'layout', LAYOUT, 'partitions', PARTITIONS,
  'codec', CODEC)
return 1
