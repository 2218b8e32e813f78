-- @include keys
-- @include clock
-- @include try
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

-- When a lease ends that begins now (ms): a time that no other lease has now, so that the leases of one claim can
-- mostly be told, and removed, by it at once. (A later claim may get it again when they are gone.)
local function new_deadline(ms)
  local deadline = noted_clock() + ms
  while redis.call('ZCOUNT', LEASE, deadline, deadline) > 0 do deadline = deadline + 1 end
  return deadline
end
