-- forget: of some keys noted as saved, those without a record are noted no longer.
-- ARGV  2… keys
-- Reply how many
local forgotten = 0
for i = 2, #ARGV do
  if redis.call('EXISTS', PREFIX .. ARGV[i]) == 0 then forgotten = forgotten + redis.call('HDEL', SAVED, ARGV[i]) end
end
return forgotten
