-- forget: removes keys from a hash of failures if they have no record any more.
-- ARGV  2 'retry', 'expired' or 'dead'  3… keys
-- Reply how many
-- @include keys
local HASH = ({retry = RETRY, expired = EXPIRED, dead = DEAD})[ARGV[2]]

local forgotten = 0
for i = 3, #ARGV do
  if redis.call('EXISTS', PREFIX .. ARGV[i]) == 0 then forgotten = forgotten + redis.call('HDEL', HASH, ARGV[i]) end
end
return forgotten
