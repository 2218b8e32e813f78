-- sizes: how many bytes the records of some keys have.
-- ARGV  2… keys
-- Reply the bytes of each; 0 without a record
-- @include keys
-- @include try
local sizes = {}
for i = 2, #ARGV do sizes[i - 1] = try('STRLEN', PREFIX .. ARGV[i]) or 0 end
return sizes
