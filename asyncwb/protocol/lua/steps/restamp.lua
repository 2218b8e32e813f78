-- restamp: gives records a newer version, of an epoch that was allotted for this alone, if they still have the version
-- that the caller could not save. It is like a put of the same content that only replaces that version.
-- ARGV  2 the epoch of the new versions  3 the epoch in which the caller looked at the backend  4… key and
--       version for each
-- Reply how many got one; or 'EPOCH': this server is in another history, or in another epoch than that
-- @include keys
-- @include allow_at_maxmemory
-- @include history
-- @include marks
-- @include newer
-- @include pending
-- @include try
-- @include whole
local EPOCH, PRESENT = tonumber(ARGV[2]), tonumber(ARGV[3])

-- All that a pending record has, as if it had been written anew in this epoch, of which there are no other versions of
-- this key: its parts may be of several epochs, and none of them is in what the backend holds now.
local function stamped(record, epoch)
  local base, payloads = base_of(record), {}
  local sound = base and each_entry(record, base.entries, function(_, _, payload)
    payloads[#payloads + 1] = payload
  end)
  if not sound then return epoch .. string.sub(record, 5) end
  local count, is_known = #payloads, base.kind ~= '?'
  local last = math.max(struct.unpack('>I4', record, 5), is_known and count + 1 or count)
  -- That of the base, 0, and of the entries, from 1.
  local function version_at(number) return epoch .. struct.pack('>I4', last - count + number) end
  local entries = {}
  for i = 1, count do entries[i] = entry_of(version_at(i), version_at(i), payloads[i]) end
  return pending_of(version_at(count), string.sub(record, 9, 16), string.sub(record, 18, 18),
    version_at(is_known and 0 or 1), version_at(count), is_known and version_at(0) or NEVER, base.kind, base.payload,
    table.concat(entries))
end

local meta = redis.call('HMGET', META, 'identity', 'epoch')
-- A later put has to be newer than what is written here, so the new versions need an epoch below the present one. And
-- if a replica that lagged has taken over since the caller looked, an old record is back, and the backend may hold a
-- newer one.
if not is_present(meta[1]) or whole(meta[2]) ~= PRESENT or PRESENT <= EPOCH then return 'EPOCH' end
allow_at_maxmemory()
local done = 0
for i = 4, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local record = try('GET', PREFIX .. key)
  local newest = struct.pack('>I4', EPOCH) .. string.sub(version, 5)
  if record and string.sub(record, 1, 8) == version and newer(newest, version) then
    if redis.call('ZSCORE', LEASE, key) then mark({key}) end
    redis.call('SET', PREFIX .. key, is_pending(record) and stamped(record, string.sub(newest, 1, 4))
      or newest .. string.sub(record, 9))
    try('HDEL', TOKENS, key)
    done = done + 1
  end
end
return done
