-- give_back: some records of a claim become due again at once, because the claim had more than it may read.
-- ARGV  2 the claim's id  3… keys
-- Reply how many the claim still held
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
-- @include clock
-- @include marks
local CLAIM = ARGV[2]

allow_at_maxmemory()
local deadline = deadline_of(CLAIM)
if not deadline then return 0 end
local keys, now = {}, clock()
for i = 3, #ARGV do keys[i - 2] = ARGV[i] end
local deadlines = read_all('ZMSCORE', LEASE, keys)
local held, dirty = {}, {}
for i = 1, #keys do
  if tonumber(deadlines[i] or nil) == deadline then
    held[#held + 1] = keys[i]
    dirty[2 * #held - 1] = now
    dirty[2 * #held] = keys[i]
  end
end
if #held > 0 then
  write_all('ZADD', DIRTY, dirty)
  write_all('ZREM', LEASE, held)
  unmark(held)
end
return #held
