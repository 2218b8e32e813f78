-- @include keys
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
