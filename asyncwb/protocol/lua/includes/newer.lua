-- Versions are compared as numbers: `<` on strings follows the locale, and 64 bits don't fit a double.
local function newer(a, b)
  local a_epoch, a_seq = struct.unpack('>I4I4', a)
  local b_epoch, b_seq = struct.unpack('>I4I4', b)
  return a_epoch > b_epoch or (a_epoch == b_epoch and a_seq > b_seq)
end
