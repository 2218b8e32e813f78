-- claim: due records go from dirty to lease, in one step, bounded in number and in bytes.
-- KEYS  8 claim
-- ARGV  2 most records  3 most bytes (one larger record still goes alone)  4 lease (ms)  5 ms to keep the claim
-- Reply ms until the next record is due (-1: none), then key, record, key, record, …
allow_at_maxmemory()
local most, budget = tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local deadline = new_deadline(tonumber(ARGV[4]))
local due = redis.call('ZRANGEBYSCORE', DIRTY, '-inf', now, 'LIMIT', 0, most)
local first = #due
if #due < most then
  -- Scheduled by a clock that has been set back since.
  local far = redis.call('ZRANGEBYSCORE', DIRTY, '(' .. (now + LONGEST), '+inf', 'LIMIT', 0, most - #due)
  for i = 1, #far do due[#due + 1] = far[i] end
end

local reply, leave, lease, keys, versions, bytes = {-1}, 0, {}, {}, {}, 0
local at, step = 1, 8
-- Small steps first: a batch of large records must not be read whole before the budget is known to be spent.
while at <= #due and (bytes < budget or #keys == 0) do
  local stop = math.min(at + step - 1, #due)
  local records = read_present(due, at, stop)
  for i = at, stop do
    local record, key = records[i - at + 1], due[i]
    if not record then
      leave = i
    elseif #keys == 0 or bytes + #record <= budget then
      bytes = bytes + #record
      leave = i
      lease[#lease + 1] = deadline
      lease[#lease + 1] = key
      keys[#keys + 1] = key
      versions[#versions + 1] = string.sub(record, 1, 8)
      reply[#reply + 1] = key
      reply[#reply + 1] = record
    else
      bytes = budget
      break
    end
  end
  at = stop + 1
  step = math.min(step * 2, CHUNK)
end

-- Into a set before out of another: if something else than a set is there, nothing has moved.
if #keys > 0 then write_all('ZADD', LEASE, lease) end
-- What leaves are the first of `due`, and what of it is due by its time stands first in the set. (0.4 of 3 µs.)
if leave > 0 and first > 0 then redis.call('ZREMRANGEBYRANK', DIRTY, 0, math.min(leave, first) - 1) end
for i = first + 1, leave do redis.call('ZREM', DIRTY, due[i]) end
if #keys > 0 then
  redis.call('SET', KEYS[8], cmsgpack.pack({deadline, keys, versions}), 'PX', ARGV[5])
end
local head = redis.call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
if head[1] then reply[1] = math.max(0, tonumber(head[2]) - now) end
return reply
