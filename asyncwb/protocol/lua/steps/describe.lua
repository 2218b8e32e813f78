-- describe: all that is known of one record.
-- ARGV  2 key
-- Reply now (ms), record, due time, lease deadline, dead-letter entry, what is noted of its failures; '' for nothing, also
--       for a record that is no string; nil if there is no record
-- @include keys
-- @include clock
-- @include try
local key = ARGV[2]
if redis.call('EXISTS', PREFIX .. key) == 0 then return false end
local now, _, ahead = times()

-- When something is scheduled, by the clock of ages; '' if it isn't.
local function scheduled(set)
  local score = redis.call('ZSCORE', set, key)
  return score and string.format('%.0f', tonumber(score) - ahead) or ''
end

return {
  now, try('GET', PREFIX .. key) or '', scheduled(DIRTY), scheduled(LEASE), redis.call('HGET', DEAD, key) or '',
  redis.call('HGET', RETRY, key) or '',
}
