-- forget: of some keys that a hash knows, those without a record are known no longer.
-- ARGV  2 'retry', 'expired' or 'dead'  3… keys
-- Reply how many
-- @include keys
local hash = ({retry = RETRY, expired = EXPIRED, dead = DEAD})[ARGV[2]]
local forgotten = 0
for i = 3, #ARGV do
  if redis.call('EXISTS', PREFIX .. ARGV[i]) == 0 then forgotten = forgotten + redis.call('HDEL', hash, ARGV[i]) end
end
return forgotten
