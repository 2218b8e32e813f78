-- describe: all that is known of one record.
-- ARGV  2 key
-- Reply now (ms), record, due time, lease deadline, dead-letter entry, what is noted of its failures; '' for nothing, also
--       for a record that is no string; nil if there is no record
local key = ARGV[2]
if redis.call('EXISTS', PREFIX .. key) == 0 then return false end
return {
  clock(), try('GET', PREFIX .. key) or '', redis.call('ZSCORE', DIRTY, key) or '',
  redis.call('ZSCORE', LEASE, key) or '', redis.call('HGET', DEAD, key) or '', redis.call('HGET', RETRY, key) or '',
}
