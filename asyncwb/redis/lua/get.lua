-- get: the records of some keys, if this server is the one that the client means.
-- ARGV  2 lowest acceptable epoch  3… keys
-- Reply epoch, then a record or nil for each key; or 'EPOCH'
local meta = redis.call('HMGET', META, 'identity', 'epoch')
if not meta[1] or meta[1] ~= identity() or (whole(meta[2]) or -1) < tonumber(ARGV[2]) then return 'EPOCH' end
local reply = {meta[2]}
for i = 3, #ARGV, CHUNK do
  local records = read_present(ARGV, i, math.min(i + CHUNK - 1, #ARGV))
  for j = 1, #records do reply[#reply + 1] = records[j] end
end
return reply
