-- take_token: what Redis has of a key, and a token that is there for as long as nobody writes the key in this epoch.
-- Whoever takes it before asking the backend can write later on the condition that nothing has changed since.
-- ARGV  2 lowest acceptable epoch  3 a new token (16 bytes)  4 key
-- Reply epoch, the key's token (the new one, unless there is one already), its record or nil; 'EPOCH'; or
--       'MODE': the partition is written through
-- @include keys
-- @include allow_at_maxmemory
-- @include clock
-- @include history
-- @include try
-- @include whole
local LOWEST_EPOCH, NEW, KEY = tonumber(ARGV[2]), ARGV[3], ARGV[4]

local meta = redis.call('HMGET', META, 'identity', 'epoch', 'mode')
local epoch = whole(meta[2]) or -1
if not is_present(meta[1]) or epoch < LOWEST_EPOCH then return 'EPOCH' end
if meta[3] == 'write-through' then return 'MODE' end
allow_at_maxmemory()
-- Noted before the backend is asked: a write-through of a lost history may save its own meanwhile.
if not meta[3] then redis.call('HSET', META, 'mode', 'updates') end
local prefix = struct.pack('>I4', epoch)
local token = try('HGET', TOKENS, KEY)
if token == nil then redis.call('DEL', TOKENS) end  -- another program's
if not token or #token ~= 20 or string.sub(token, 1, 4) ~= prefix then
  token = prefix .. NEW
  redis.call('HSET', TOKENS, KEY, token)
end
-- Tokens that nobody uses are forgotten all at once, and their callers begin again.
redis.call('PEXPIRE', TOKENS, 2 * LONGEST)
local record = try('GET', PREFIX .. KEY)
return {meta[2], string.sub(token, 5), record == nil and '' or record}
