-- Shared by every script: names of the keys, the clock, and calls over long lists.
-- KEYS  1 meta  2 dirty  3 lease  4 expired  5 dead  6 wake  7 retry  (8 writer or claim)
-- ARGV  1 prefix of record keys; the rest belongs to the script
local META, DIRTY, LEASE, EXPIRED, DEAD, WAKE, RETRY = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local PREFIX = ARGV[1]
local CHUNK = 2000      -- values per unpack; Lua's C stack ends near 8,000
local LONGEST = 600000  -- ms: nothing is scheduled further ahead, unless another program did it
local JUMP = 1000       -- ms: a clock that is set back by more has jumped; by less it was merely adjusted
local HEADER = 18       -- bytes before the payload: epoch, seq, first unsaved write (ms), op, codec
local NO_VERSION = string.rep('\0', 8)  -- older than all

-- A call that may meet what another program has put in place of ours; nil if it fails for that.
local function try(...)
  local fine, reply = pcall(redis.call, ...)
  if fine then return reply end
  local text = tostring(type(reply) == 'table' and reply.err or reply)
  if string.find(text, 'WRONGTYPE') or string.find(text, 'not an integer') or string.find(text, 'overflow') then
    return nil
  end
  error(reply, 0)
end

-- A whole number of meta; nil for what another program has put there.
local function whole(text)
  if not text or #text > 16 then return nil end
  return tonumber(string.match(text, '^0$') or string.match(text, '^-?[1-9]%d*$') or '')
end

-- Milliseconds of the server's clock, which may be set: for what people read.
local function wall()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A time or a span in meta (ms); 0 for none, and for what another program has put there: no clock will ever say 2^46.
local function noted_time(text)
  local ms = whole(text) or 0
  return ms >= 0 and ms < 2^46 and ms or 0
end

-- The steady clock (ms), for ages: the server's, but it never goes back. Where the server's clock is set back, or that of
-- a promoted replica is slow, it goes on from the latest time noted in meta. Each put notes it, and while anything is
-- unsaved recover does, once a second.
-- Besides: how far the server's clock is behind it, and how far schedules are ahead of it, see `clock`. A caller that
-- notes what it gets says so: it has the schedules leap if the server's clock was set back, and has to wake a pool then.
local function times(notes)
  local meta, server = try('HMGET', META, 'clock', 'behind', 'ahead') or {}, wall()
  local latest, ahead = noted_time(meta[1]), noted_time(meta[3])
  local now = server + noted_time(meta[2])
  local leaps = notes and latest - now > JUMP
  if leaps then ahead = ahead + LONGEST end
  now = math.max(now, latest)
  return now, now - server, ahead, leaps, latest
end

-- What HSET of meta is given to note it.
local function time_fields(now, behind, ahead)
  return 'clock', string.format('%.0f', now), 'behind', string.format('%.0f', behind), 'ahead', string.format('%.0f', ahead)
end

-- The clock that due times and leases go by (ms). It leaps by the longest delay when the server's clock was set back:
-- whatever was scheduled before is due at once, as it is when that clock is set forward. Too early is safe, since saves
-- are conditional on versions; waiting for a time that another clock has set isn't.
local function clock()
  local now, _, ahead = times()
  return now + ahead
end

-- The same for who schedules something for later: were the time of that not noted, nobody could tell that the server's
-- clock was set back afterwards. (By less than a jump it needn't be; and where a put has noted none, there is no meta.)
local function noted_clock()
  local now, behind, ahead, _, latest = times()
  if latest > 0 and now - latest > JUMP then try('HSET', META, time_fields(now, behind, ahead)) end
  return now + ahead
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

-- The same where hardly any is absent: '' for what is there but is no string, since another program put it there.
local function read_present(keys, first, last)
  local records = read_records(keys, first, last)
  for i = first, last do
    if not records[i - first + 1] and redis.call('EXISTS', PREFIX .. keys[i]) == 1 then records[i - first + 1] = '' end
  end
  return records
end

-- The version of a key's record: '' if there is no record, NO_VERSION if another program wrote it.
local function version_of(key)
  local version = try('GETRANGE', PREFIX .. key, 0, 7)
  if version == '' or (version and #version == 8) then return version end
  return NO_VERSION
end

-- What a claim took: its deadline, keys and versions; nil if it is unknown, or overwritten.
local function read_claim(name)
  local packed = try('GET', name)
  if not packed then return nil end
  local fine, claim = pcall(cmsgpack.unpack, packed)
  if fine and type(claim) == 'table' and type(claim[1]) == 'number' and type(claim[2]) == 'table'
    and type(claim[3]) == 'table' and #claim[2] == #claim[3] then
    return claim[1], claim[2], claim[3]
  end
end

-- When a lease ends that begins now (ms): a time that no other lease has now, so that the leases of one claim can mostly
-- be told, and removed, by it at once. (A later claim may get it again when they are gone.)
local function new_deadline(ms)
  local deadline = noted_clock() + ms
  while redis.call('ZCOUNT', LEASE, deadline, deadline) > 0 do deadline = deadline + 1 end
  return deadline
end

-- The byte estimate; one that was overwritten begins anew, until `audit` counts.
local function count_bytes(change)
  if not try('HINCRBY', META, 'bytes', change) then redis.call('HSET', META, 'bytes', math.max(0, change)) end
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
      local since = try('GETRANGE', PREFIX .. key, 8, 15) or ''
      if #since == 8 and not (failed and redis.call('HEXISTS', RETRY, key) == 1) then
        oldest = math.min(oldest, (struct.unpack('>I8', since)))
      end
    end
  end
  return oldest
end

-- One token at most: it says that there is work, not how much.
local function wake()
  local tokens = try('LLEN', WAKE)
  if not tokens then redis.call('DEL', WAKE) end
  if not tokens or tokens == 0 then redis.call('LPUSH', WAKE, 1) end
end
