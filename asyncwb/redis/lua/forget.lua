-- forget: of some keys that a hash knows, those without a record are known no longer.
-- ARGV  2 'retry' or 'dead'  3… keys
-- Reply how many
local hash = ARGV[2] == 'retry' and RETRY or DEAD
local forgotten = 0
for i = 3, #ARGV do
  if redis.call('EXISTS', PREFIX .. ARGV[i]) == 0 then forgotten = forgotten + redis.call('HDEL', hash, ARGV[i]) end
end
return forgotten
