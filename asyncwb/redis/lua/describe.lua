-- describe: all that is known of one record.
-- ARGV  2 key
-- Reply now (ms), record, due time, lease deadline, dead-letter entry, what is noted of its failures; '' for nothing
local key = ARGV[2]
return {
  clock(), redis.call('GET', PREFIX .. key) or '', redis.call('ZSCORE', DIRTY, key) or '',
  redis.call('ZSCORE', LEASE, key) or '', redis.call('HGET', DEAD, key) or '', redis.call('HGET', RETRY, key) or '',
}
