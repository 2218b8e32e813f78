-- Which history this server is in; false on a replica, whose history is another server's.
local function identity()
  local info = redis.call('INFO', 'replication')
  return string.find(info, 'role:master', 1, true) and string.match(info, 'master_replid:(%x+)') or false
end
