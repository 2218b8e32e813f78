-- flush: replies what Redis has of some keys, and makes those that aren't saved yet due at once.
-- ARGV  2 lowest acceptable epoch  3 '1': make due, except what has failed and is in its back-off  4… keys
-- Reply epoch, 1 if a pool has to be woken, 1 if there are updates, then for each key the version of its record (''
--       without one, eight zeros if another program wrote it) and its dead-letter entry ('' if it isn't dead); or
--       'EPOCH'
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include clock
-- @include history
-- @include version_of
-- @include wake
-- @include whole
local LOWEST_EPOCH, HASTEN = tonumber(ARGV[2]), ARGV[3] == '1'

local meta = redis.call('HMGET', META, 'identity', 'epoch', 'mode')
local epoch = whole(meta[2]) or -1
if not is_present(meta[1]) or epoch < LOWEST_EPOCH then return 'EPOCH' end
local now = clock()
local keys = {}
for i = 4, #ARGV do keys[i - 3] = ARGV[i] end
local dead = redis.call('HLEN', DEAD) > 0 and read_all('HMGET', DEAD, keys) or {}
local failed = HASTEN and redis.call('HLEN', RETRY) > 0 and read_all('HMGET', RETRY, keys) or {}
local reply, due = {meta[2], 0, meta[3] == 'updates' and 1 or 0}, {}
for i = 1, #keys do
  local version = version_of(keys[i])
  reply[#reply + 1] = version
  reply[#reply + 1] = version ~= '' and dead[i] or ''
  if HASTEN and version ~= '' and not dead[i] and not failed[i] then
    due[#due + 1] = now
    due[#due + 1] = keys[i]
  end
end
if #due > 0 then
  allow_at_maxmemory()
  for i = 1, #due, CHUNK do
    redis.call('ZADD', DIRTY, 'XX', 'LT', unpack(due, i, math.min(i + CHUNK - 1, #due)))
  end
  reply[2] = 1
  wake()
end
return reply
