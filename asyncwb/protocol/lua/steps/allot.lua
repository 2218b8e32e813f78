-- allot: versions for writes that go to the backend directly, because the buffer is full. Also at maxmemory.
-- KEYS  11 writer
-- ARGV  2 epoch  3 how many  4 the writer's request whose writes they are
-- Reply the sequence number before the first; 'EPOCH'; 'MODE': the partition has updates or conditional writes
-- @include keys
-- @include allow_at_maxmemory
-- @include history
-- @include try
-- @include whole
local WRITER = KEYS[11]
local EPOCH, COUNT, REQUEST = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local meta = redis.call('HMGET', META, 'identity', 'epoch', 'seq', 'mode')
local used = whole(meta[3])
if not is_present(meta[1]) or meta[2] ~= EPOCH or not fits(used, COUNT) then return 'EPOCH' end
if meta[4] == 'updates' then return 'MODE' end
allow_at_maxmemory()
-- The request is marked as processed, so that an earlier copy of it that is still in flight cannot be applied over the
-- write-through. (At maxmemory it was refused and left no trace.)
local memory = try('GET', WRITER)
local last = memory and #memory >= 16 and struct.unpack('>I8', memory)
if last and last < REQUEST then
  redis.call('SET', WRITER, struct.pack('>I8I8', REQUEST, last) .. '\n', 'KEEPTTL')
end
if not meta[4] then redis.call('HSET', META, 'mode', 'write-through') end
return redis.call('HINCRBY', META, 'seq', COUNT) - COUNT
