-- describe: all that is known of one record.
-- ARGV  2 key
-- Reply now (ms), record, due time, lease deadline, dead-letter entry, what is noted of its failures; '' for nothing,
--       also for a record that is no string; nil if there is no record
-- @include keys
-- @include clock
-- @include try
local KEY = ARGV[2]

if redis.call('EXISTS', PREFIX .. KEY) == 0 then return false end
local now, _, ahead = times()

-- The time that the record has in a set, converted to the steady clock; '' if it isn't in it.
local function scheduled(set)
  local score = redis.call('ZSCORE', set, KEY)
  return score and string.format('%.0f', math.floor(tonumber(score) - ahead)) or ''
end

return {
  now, try('GET', PREFIX .. KEY) or '', scheduled(DIRTY), scheduled(LEASE), redis.call('HGET', DEAD, KEY) or '',
  redis.call('HGET', RETRY, KEY) or '',
}
