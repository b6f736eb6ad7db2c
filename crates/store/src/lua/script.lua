-- The last of what is shared: how each script is made a function of the library. It stands
-- behind everything whose state it resets.

-- `body` is a script: it finds its arguments in ARGV and returns its reply. One that only
-- `reads` may run where Redis can write nothing.
local function script(name, reads, body)
  redis.register_function{
    function_name = name .. '_' .. DIGEST,
    flags = reads and {'no-writes'} or {},
    callback = function(_, args)
      call, ARGV = redis.call, args
      -- What a script that ended with an error left.
      if next(counted) then counted = {} end
      deferred = nil
      local reply = body()
      if next(counted) then write_counts() end
      return reply
    end}
end
