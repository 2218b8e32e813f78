-- get: the records of some keys, if this server is the one that the client means.
-- ARGV  2 lowest acceptable epoch  3… keys
-- Reply a record or nil for each key, then the epoch; or 'EPOCH'
-- @include keys
-- @include chunks
-- @include history
-- @include records
-- @include whole
local LOWEST_EPOCH = tonumber(ARGV[2])

local meta = redis.call('HMGET', META, 'identity', 'epoch')
if not is_present(meta[1]) or (whole(meta[2]) or -1) < LOWEST_EPOCH then return 'EPOCH' end
local reply = read_present(ARGV, 3, math.min(CHUNK + 2, #ARGV))
for i = CHUNK + 3, #ARGV, CHUNK do
  local stop = math.min(i + CHUNK - 1, #ARGV)
  local records = read_present(ARGV, i, stop)
  for j = i, stop do reply[j - 2] = records[j - i + 1] end
end
reply[#ARGV - 1] = meta[2]
return reply
