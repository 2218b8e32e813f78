local HEADER = 18  -- bytes before the payload: epoch, seq, first unsaved write (ms), kind, codec
