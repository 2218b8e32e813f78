-- read_updates: the records of some keys that a claim has, for its flusher. In the same step it is noted in each that
-- has updates how far it was read: what writers fold from then on lies behind that. A note made with the claim would be
-- too early, as the record may grow before it is read.
-- ARGV  2… keys
-- Reply a record or nil for each key; '' for what is there but is no string
-- @include keys
-- @include allow_at_maxmemory
-- @include header
-- @include pending
-- @include try
allow_at_maxmemory()
local reply = {}
for i = 2, #ARGV do
  local name = PREFIX .. ARGV[i]
  local record = try('GET', name)
  if record and is_pending(record) then redis.call('SETRANGE', name, HEADER + 8, string.sub(record, 1, 8)) end
  reply[i - 1] = record == nil and '' or record
end
return reply
