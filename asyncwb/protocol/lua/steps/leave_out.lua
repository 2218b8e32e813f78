-- leave_out: a dead letter with an update that can't be applied becomes dirty again without that update, if the record
-- is still the one that the caller has seen. What was folded into that update goes with it.
-- ARGV  2 key  3 the record's version  4 the first and  5 the last version of the entry that is left out
-- Reply 1 if it was left out; 0 if the key isn't dead any more, or its record is another one
-- @include keys
-- @include allow_at_maxmemory
-- @include clock
-- @include count_bytes
-- @include dropped
-- @include header
-- @include pending
-- @include removal
-- @include try
-- @include wake
local KEY, VERSION, FIRST, LAST = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local name = PREFIX .. KEY
local record = try('GET', name)
if not record or not is_pending(record) or string.sub(record, 1, 8) ~= VERSION then return 0 end
if redis.call('HEXISTS', DEAD, KEY) == 0 then return 0 end
local base = base_of(record)
if not base then return 0 end
local from, to, oldest, newest = nil, nil, nil, nil
local sound = each_entry(record, base.entries, function(first, last, payload, at)
  if first == FIRST and last == LAST then
    from, to = at, at + ENTRY + #payload
  else
    oldest, newest = oldest or first, last
  end
end)
if not sound or not from then return 0 end

local since, codec = string.sub(record, 9, 16), string.sub(record, HEADER, HEADER)
local left = nil
if newest then
  local origin = base.kind == '?' and oldest or base.version
  left = pending_of(newest, since, codec, origin, string.sub(record, HEADER + 9, HEADER + 16), base.version, base.kind,
    base.payload, string.sub(record, base.entries, from - 1) .. string.sub(record, to))
elseif base.kind ~= '?' then
  left = base.version .. since .. base.kind .. (base.kind == 'd' and 'j' or codec) .. base.payload
end

allow_at_maxmemory()
note_dropped({LAST})
if not left then
  count_bytes(-remove(KEY))  -- the backend has all that is left of it
  return 1
end
redis.call('ZADD', DIRTY, 'NX', clock(), KEY)
redis.call('SET', name, left)
forget_failures(KEY)
try('HDEL', TOKENS, KEY)  -- whoever has looked before has seen another version
count_bytes(#left - #record)
wake()
return 1
