--[[ What every edge shares: the order of KEYS, the limits, the clock.

Every function takes the same 15 keys of one queue partition in this order, then its own. They share
one hash tag, so a call never leaves its slot. Rule of the house: validate, then write. Redis does
not roll a function back, so after its first write nothing in it may fail; each edge first reads
every key it may write (a wrong type fails there) and only then changes anything.
]]
local CFG, STATE, TASKS, META, PENDING, SCHEDULED, FAILED, RESULTS = 1, 2, 3, 4, 5, 6, 7, 8
local DONE, WAITERS, PARKED, CONSUMERS, STATS, MINUTES, EXPIRING = 9, 10, 11, 12, 13, 14, 15
local OWN = 15 -- a function's own keys start behind the shared ones

local MAX_BATCH = 1000
local MAX_PAYLOAD, MAX_EXTRA, MAX_ERROR = 1048576, 65536, 4096
local PRIORITY_SPAN = 17592186044416 -- 2^44: score = priority * 2^44 + sequence, below 2^53
local DEFAULT = {
  priority = 5, max_attempts = 3, retry_priority_step = 10, retention = 3600000,
  backoff_base = 1000, backoff_factor = 2, backoff_cap = 3600000, backoff_jitter = 0.1,
}
local POISON_LIMIT = 3      -- consumers that may die under a task
local UNHANDLED_LIMIT = 10  -- releases because a consumer knew no handler
local FAILED_CAP, FAILED_AGE = 100000, 7776000000 -- dead letters: count, 90 days

-- Bound at the first call: while a library loads, neither redis.call nor Lua's own libraries exist.
local call, floor, fmt, find, sub, match, byte

local function bind()
  call, floor, fmt = redis.call, math.floor, string.format
  find, sub, match, byte = string.find, string.sub, string.match, string.byte
end

-- Integers become text without an exponent (Lua's own tostring keeps 14 digits only).
local function int(n) return fmt('%d', n) end

-- A number among the arguments of a command is printed as a double, which costs as much as the command: edges that run
-- often say '0', and `small(n)` for whole numbers from 0, of which those up to MAX_BATCH are made once.
local small, series

do
  local digits, three = {}, {}

  function small(n)
    local text = digits[n]
    if not text then
      text = int(n)
      if n <= MAX_BATCH then digits[n] = text end
    end
    return text
  end

  -- `n` consecutive whole numbers from `first` on as texts with `before` in front: all but the last three digits
  -- are printed once a thousand.
  function series(before, first, n)
    local list, head = {}, nil
    if n == 1 or first < 1000 then
      for i = 1, n do list[i] = before .. int(first + i - 1) end
      return list
    end
    if not three[0] then
      for i = 0, 999 do three[i] = fmt('%03d', i) end
    end
    local low = first % 1000
    for i = 1, n do
      if low == 1000 then head, low = nil, 0 end
      head = head or before .. int((first + i - 1 - low) / 1000)
      list[i] = head .. three[low]
      low = low + 1
    end
    return list
  end
end

-- HSET of many short values into a hash of `held` fields. Up to 512 of them would make a list that each look-up scans; one
-- value too long for that makes it a table. It costs two commands, so few fields go without.
local FEW = 16 -- up to so many, what saves a batch time would cost more
local function set_wide(key, held, pairs)
  local n = #pairs
  local wide = held + n / 2 > FEW
  if wide then pairs[n + 1], pairs[n + 2] = '', '                                                                 ' end -- '' is nobody's id
  call('HSET', key, unpack(pairs))
  if wide then call('HDEL', key, '') end
end

-- Redis' clock, the only one there is: milliseconds and microseconds since the epoch.
local function clock()
  local t = call('TIME')
  local us = t[1] * 1000000 + t[2]
  return floor(us / 1000), us
end

local function refuse(why) return redis.error_reply('INVALID ' .. why) end

-- 'workyard:{q}:' from the first key, to name the channels of the same partition.
local function prefix_of(keys) return sub(keys[CFG], 1, -4) end

-- Function names are global to a server: they carry the protocol version. `own` names the keys that the function is never
-- called without, behind the shared ones, as its header does: one that is missing would be an error of Lua's in its middle.
local function register(name, edge, flag, own)
  local least = OWN + (own and #own or 0)
  if own and own[1] == "the job's 12" then least = least + 11 end
  redis.register_function {
    function_name = 'workyard_1_' .. name,
    callback = function(keys, argv)
      if not call then bind() end
      if #keys < least then
        local behind = own and ', then ' .. table.concat(own, ', ') or ''
        return refuse(name .. ' takes the ' .. OWN .. ' shared keys first' .. behind .. ': ' .. least .. ' keys at least, but got ' .. #keys)
      end
      return edge(keys, argv)
    end,
    flags = flag and { flag } or {},
  }
end
