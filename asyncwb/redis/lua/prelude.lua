-- Shared by every script: names of the keys, the clock, and calls over long lists.
-- KEYS  1 meta  2 dirty  3 lease  4 saved  5 dead  6 wake  7 retry  (8 writer or claim)
-- ARGV  1 prefix of record keys; the rest belongs to the script
local META, DIRTY, LEASE, SAVED, DEAD, WAKE, RETRY = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local PREFIX = ARGV[1]
local CHUNK = 2000      -- values per unpack; Lua's C stack ends near 8,000
local LONGEST = 600000  -- ms: nothing is scheduled further ahead, unless the clock jumped
local HEADER = 18       -- bytes before the payload: epoch, seq, first unsaved write (ms), op, codec

-- Milliseconds of the server's clock: the only clock that all processes share.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Which history this server is in; false on a replica, whose history is another server's.
local function identity()
  local info = redis.call('INFO', 'replication')
  return string.find(info, 'role:master', 1, true) and string.match(info, 'master_replid:(%x+)') or false
end

-- At maxmemory a script whose first write frees may go on writing. '' is never a key, so nothing is removed.
local function allow_at_maxmemory()
  redis.call('ZREM', DIRTY, '')
end

-- A command with a long list of arguments, in chunks; returns the sum of the integer replies.
local function write_all(command, key, args)
  local total = 0
  for i = 1, #args, CHUNK do
    total = total + redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, #args)))
  end
  return total
end

-- A command that replies with one item for each argument, in chunks.
local function read_all(command, key, args)
  local found = {}
  for i = 1, #args, CHUNK do
    local part = redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, #args)))
    for j = 1, #part do found[i + j - 1] = part[j] end
  end
  return found
end

-- The records of keys[first..last]; absent ones are false.
local function read_records(keys, first, last)
  local names = {}
  for i = first, last do names[#names + 1] = PREFIX .. keys[i] end
  return redis.call('MGET', unpack(names))
end

-- Versions are compared as numbers: `<` on strings follows the locale, and 64 bits don't fit a double.
local function newer(a, b)
  local a_epoch, a_seq = struct.unpack('>I4I4', a)
  local b_epoch, b_seq = struct.unpack('>I4I4', b)
  return a_epoch > b_epoch or (a_epoch == b_epoch and a_seq > b_seq)
end

-- When the oldest of the unsaved writes was made (ms), about: the earliest due are the oldest, and looking at some of
-- each set is near enough. Those that failed and wait for their back-off can be left out. now + 1 if there is none.
local function oldest_since(now, look_at, skip_failed)
  local oldest = now + 1
  local failed = skip_failed and redis.call('HLEN', RETRY) > 0
  for _, set in ipairs({DIRTY, LEASE}) do
    for _, key in ipairs(redis.call('ZRANGE', set, 0, look_at - 1)) do
      local since = redis.call('GETRANGE', PREFIX .. key, 8, 15)
      if #since == 8 and not (failed and redis.call('HEXISTS', RETRY, key) == 1) then
        oldest = math.min(oldest, (struct.unpack('>I8', since)))
      end
    end
  end
  return oldest
end

-- One token at most: it says that there is work, not how much.
local function wake()
  if redis.call('LLEN', WAKE) == 0 then redis.call('LPUSH', WAKE, 1) end
end
