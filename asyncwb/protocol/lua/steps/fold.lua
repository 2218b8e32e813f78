-- fold: replaces entries of a pending record that no flusher has read by fewer ones, unless anything has become of them
-- since the caller has read them.
-- ARGV  2 key  3 where the entries begin (from 1)  4 the entries as read  5 what takes their place
-- Reply how many bytes it saves; 0 if it was too late
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include header
-- @include newer
-- @include pending
-- @include try
local KEY, AT, READ, FOLDED = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]

local name = PREFIX .. KEY
local record = try('GET', name)
if not record or not is_pending(record) or string.sub(record, AT, AT + #READ - 1) ~= READ then return 0 end
-- A flusher has read some of them, and the backend may come to hold a version in between.
if not newer(string.sub(READ, 1, 8), string.sub(record, HEADER + 9, HEADER + 16)) then return 0 end
allow_at_maxmemory()
redis.call('SET', name, string.sub(record, 1, AT - 1) .. FOLDED .. string.sub(record, AT + #READ))
count_bytes(#FOLDED - #READ)
return #READ - #FOLDED
