-- pending: how much isn't saved, counted in one step: a record on its way from one set to another is in one of them.
-- Reply dirty, leased
return {redis.call('ZCARD', DIRTY), redis.call('ZCARD', LEASE)}
