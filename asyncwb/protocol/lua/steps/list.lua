-- list: a page of the records that are dirty or leased, with what an operator wants to know of each.
-- ARGV  2 'dirty' or 'lease'  3 offset  4 most
-- Reply now (ms), then for each: key, score (ms), header of its record, its bytes, what is noted of its failures
-- @include keys
-- @include clock
-- @include header
-- @include try
local SET, OFFSET, MOST = ARGV[2] == 'lease' and LEASE or DIRTY, tonumber(ARGV[3]), tonumber(ARGV[4])

local found = redis.call('ZRANGE', SET, OFFSET, OFFSET + MOST - 1, 'WITHSCORES')
local failing = redis.call('HLEN', RETRY) > 0
local now, _, ahead = times()
local reply = {now}
for i = 1, #found, 2 do
  local name = PREFIX .. found[i]
  reply[#reply + 1] = found[i]
  reply[#reply + 1] = string.format('%.0f', math.floor(tonumber(found[i + 1]) - ahead))
  reply[#reply + 1] = try('GETRANGE', name, 0, HEADER - 1) or ''
  reply[#reply + 1] = try('STRLEN', name) or 0
  reply[#reply + 1] = failing and redis.call('HGET', RETRY, found[i]) or ''
end
return reply
