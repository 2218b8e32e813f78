-- supersede: removes records that are not newer than what the backend holds, or a read would return them.
-- ARGV  2 '1' if they were written through  3… key and version for each
-- Reply how many left; 'MODE' if they were written through, but the partition has updates by now: after a failover that
--       lost the numbers of the write-through, and updates that were worked out meanwhile may lack it
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include newer
-- @include removal
-- @include try
-- @include version_of
local WRITTEN_THROUGH = ARGV[2] == '1'

allow_at_maxmemory()
if WRITTEN_THROUGH and (try('HMGET', META, 'mode') or {})[1] == 'updates' then return 'MODE' end
local gone, freed = 0, 0
for i = 3, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local present = version_of(key)
  if present ~= '' and not newer(present, version) then
    freed = freed + remove(key)
    gone = gone + 1
  end
end
if freed > 0 then count_bytes(-freed) end
return gone
