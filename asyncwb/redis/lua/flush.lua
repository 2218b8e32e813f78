-- flush: whether the backend holds some writes already; what it doesn't hold is due at once.
-- ARGV  2 lowest acceptable epoch  3 '1': make due, but for what has failed and is in its back-off  then key and version ('' for the present one) for each write
-- Reply epoch, 1 if a pool has to be woken, then for each write 'S' (saved), 'P' + version (pending),
--       'A' (only the backend knows), 'D' + reason (dead-lettered); or 'EPOCH'
local meta = redis.call('HMGET', META, 'identity', 'epoch')
local epoch = whole(meta[2]) or -1
if not meta[1] or meta[1] ~= identity() or epoch < tonumber(ARGV[2]) then return 'EPOCH' end
local hasten = ARGV[3] == '1'
allow_at_maxmemory()
local now = clock()
local reply, due = {meta[2], 0}, {}
for i = 4, #ARGV, 2 do
  local key, wanted = ARGV[i], ARGV[i + 1]
  local present = version_of(key)
  if wanted == '' and present ~= '' then wanted = present end
  local noted = redis.call('HGET', SAVED, key)
  if noted then noted = noted_in(noted) end
  -- Nothing of a later epoch can have been saved.
  if noted and struct.unpack('>I4', noted) > epoch then noted = NO_VERSION end
  local answer
  if wanted == '' then
    answer = 'S'
  elseif noted and not newer(wanted, noted) then
    answer = 'S'
  elseif present == '' then
    answer = struct.unpack('>I4', wanted) == epoch and 'S' or 'A'
  elseif newer(wanted, present) then
    answer = 'A'
  else
    local dead = redis.call('HGET', DEAD, key)
    if dead then
      answer = 'D' .. string.sub(dead, 29)
    else
      answer = 'P' .. wanted
      if not noted then
        redis.call('HSET', SAVED, key, struct.pack('>I4I4', 0, 0) .. 'w')
      elseif #noted == 8 then
        redis.call('HSET', SAVED, key, noted .. 'w')
      end
      if hasten and redis.call('HEXISTS', RETRY, key) == 0 then
        due[#due + 1] = now
        due[#due + 1] = key
      end
    end
  end
  if noted and present == '' then
    redis.call('HDEL', SAVED, key)
  elseif noted and #noted > 8 and answer == 'S' then
    redis.call('HSET', SAVED, key, string.sub(noted, 1, 8))
  end
  reply[#reply + 1] = answer
end
for i = 1, #due, CHUNK do
  redis.call('ZADD', DIRTY, 'XX', 'LT', unpack(due, i, math.min(i + CHUNK - 1, #due)))
end
if #due > 0 then
  reply[2] = 1
  wake()
end
return reply
