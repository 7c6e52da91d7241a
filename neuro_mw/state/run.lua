-- neuro_mw:run:1
-- What scripts.py says, for Redis and Valkey: KEYS has one key for each script; ARGV its name, how many arguments
-- follow, and these. Replies come up to the first that stops.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local MOST = 9007199254740991
local MAX_TTL_S = 315360000
local DEFAULT_TTL_S = 2592000
local CORRUPT = 'CORRUPT'

-- all 17 digits: what Lua itself makes of a number has 14
local function text(number)
  return string.format('%.17g', number)
end

local function number(value, above)
  local found = tonumber(value)
  if not found or found - found ~= 0 or found < 0 or (above and found == 0) then error(CORRUPT, 0) end
  return found
end

local function milliseconds(seconds)
  return string.format('%.0f', math.ceil(math.min(seconds, MAX_TTL_S) * 1000) + 1)
end

-- rate limits: a string "meter <used> <at> <limit> <period_s>"

local function meter_of(key)
  local kept = redis.pcall('GET', key)
  if not kept then return nil end
  if type(kept) ~= 'string' then error(CORRUPT, 0) end
  local used, at, limit, period_s = string.match(kept, '^meter (%S+) (%S+) (%S+) (%S+)$')
  return {used = number(used), at = number(at), limit = number(limit, true), period_s = number(period_s, true)}
end

local function drained(meter, limit, period_s)
  if not meter then return 0 end
  local elapsed = now - meter.at
  local used = meter.used
  if elapsed > 0 then used = used - elapsed * limit / period_s end
  return used > 0 and used or 0
end

local function keep_meter(key, used, limit, period_s)
  if used <= 0 then
    redis.call('DEL', key)
  else
    local kept = 'meter ' .. text(used) .. ' ' .. text(now) .. ' ' .. text(limit) .. ' ' .. text(period_s)
    redis.call('SET', key, kept, 'PX', milliseconds(used * period_s / limit))
  end
end

local function rate(granted, retry_after_s, used, limit)
  return {'rate', granted and '1' or '0', retry_after_s and text(retry_after_s) or '', text(used), text(limit)},
    not granted
end

-- budgets: a hash of numbers, and of leases as "lease:<id>" = "<amount> <ends> <length_s>"

local function budget_of(key)
  local kept = redis.pcall('HMGET', key, 'spent', 'reserved', 'first_end', 'at', 'ttl_s')
  if kept.err then error(CORRUPT, 0) end
  if not kept[1] and redis.call('EXISTS', key) == 0 then return nil end
  return {spent = number(kept[1]), reserved = number(kept[2]), first_end = number(kept[3]), at = number(kept[4]),
    ttl_s = number(kept[5], true)}
end

local function lease_of(kept)
  local amount, ends, length_s = string.match(kept, '^(%S+) (%S+) (%S+)$')
  return number(amount), number(ends), number(length_s, true)
end

local function keep_lease(key, field, amount, ends, length_s)
  redis.call('HSET', key, field, text(amount) .. ' ' .. text(ends) .. ' ' .. text(length_s))
end

-- the budget as of now: without the leases that have ended
local function opened(key, changes)
  local budget = budget_of(key)
  if not budget or now >= budget.at + budget.ttl_s then
    if budget and changes then redis.call('DEL', key) end
    return nil
  end
  if now < budget.at or now >= budget.first_end then
    budget.reserved, budget.first_end = 0, MOST
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if string.sub(fields[i], 1, 6) == 'lease:' then
        local amount, ends, length_s = lease_of(fields[i + 1])
        local cut = math.min(ends, now + length_s)
        if cut <= now then
          if changes then redis.call('HDEL', key, fields[i]) end
        else
          if changes and cut < ends then keep_lease(key, fields[i], amount, cut, length_s) end
          budget.reserved = budget.reserved + amount
          budget.first_end = math.min(budget.first_end, cut)
        end
      end
    end
  end
  return budget
end

local function drop(budget, key, lease)
  local held = redis.call('HGET', key, 'lease:' .. lease)
  if held then
    budget.reserved = budget.reserved - lease_of(held)
    redis.call('HDEL', key, 'lease:' .. lease)
  end
end

local function keep_budget(key, budget)
  redis.call('HSET', key, 'spent', text(budget.spent), 'reserved', text(budget.reserved),
    'first_end', text(budget.first_end), 'at', text(now), 'ttl_s', text(budget.ttl_s))
  redis.call('PEXPIRE', key, milliseconds(budget.ttl_s))
end

local function spending(granted, budget)
  return {'spending', granted and '1' or '0', string.format('%.0f', budget.spent),
    string.format('%.0f', budget.reserved)}, not granted
end

local steps = {}

function steps.read(key)
  local kept = redis.pcall('GET', key)
  if type(kept) ~= 'string' then return false, false end
  return kept, true
end

function steps.write(key, value, ttl_s)
  redis.call('SET', key, value, 'PX', milliseconds(tonumber(ttl_s)))
  return false, false
end

function steps.take(key, amount, limit, period_s)
  amount, limit, period_s = tonumber(amount), tonumber(limit), tonumber(period_s)
  local used = drained(meter_of(key), limit, period_s)
  local most = limit + limit / period_s * 0.000001
  if used + amount <= most then
    used = used + amount
    keep_meter(key, used, limit, period_s)
    return rate(true, 0, used, limit)
  end
  keep_meter(key, used, limit, period_s)
  return rate(false, amount <= most and (used + amount - limit) * period_s / limit, used, limit)
end

steps['return'] = function(key, amount, limit, period_s)
  amount, limit, period_s = tonumber(amount), tonumber(limit), tonumber(period_s)
  local used = math.min(math.max(0, drained(meter_of(key), limit, period_s) - amount), MOST)
  keep_meter(key, used, limit, period_s)
  return rate(true, 0, used, limit)
end

function steps.reserve(key, lease, amount, limit, lease_s, ttl_s)
  amount, limit, lease_s, ttl_s = tonumber(amount), tonumber(limit), tonumber(lease_s), tonumber(ttl_s)
  local budget = opened(key, true) or {spent = 0, reserved = 0, first_end = MOST}
  budget.ttl_s = math.max(ttl_s, lease_s)
  drop(budget, key, lease)
  local granted = budget.spent + budget.reserved + amount <= limit
  if granted then
    keep_lease(key, 'lease:' .. lease, amount, now + lease_s, lease_s)
    budget.reserved = budget.reserved + amount
    budget.first_end = math.min(budget.first_end, now + lease_s)
  end
  keep_budget(key, budget)
  return spending(granted, budget)
end

function steps.settle(key, lease, amount, again)
  local budget = opened(key, true)
  if again == '1' and not (budget and redis.call('HEXISTS', key, 'lease:' .. lease) == 1) then
    if budget then keep_budget(key, budget) end
    return spending(true, budget or {spent = 0, reserved = 0})
  end
  budget = budget or {spent = 0, reserved = 0, first_end = MOST, ttl_s = DEFAULT_TTL_S}
  drop(budget, key, lease)
  budget.spent = math.min(budget.spent + tonumber(amount), MOST)
  keep_budget(key, budget)
  return spending(true, budget)
end

function steps.release(key, lease)
  local budget = opened(key, true)
  if not budget then return spending(true, {spent = 0, reserved = 0}) end
  drop(budget, key, lease)
  keep_budget(key, budget)
  return spending(true, budget)
end

function steps.peek(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return false, false end
  if kind == 'string' then
    local meter = meter_of(key)
    local used = drained(meter, meter.limit, meter.period_s)
    if used <= 0 then return false, false end
    return rate(true, 0, used, meter.limit)
  end
  local budget = opened(key, false)
  if not budget then return false, false end
  return spending(true, budget)
end

-- no entry is changed where one is none of ours
local checks = {take = meter_of, ['return'] = meter_of, reserve = budget_of, settle = budget_of, release = budget_of}
local replies, position = {}, 1
for i, key in ipairs(KEYS) do
  local check = checks[ARGV[position]]
  if check and not pcall(check, key) then return redis.error_reply(CORRUPT .. ' ' .. i) end
  position = position + 2 + tonumber(ARGV[position + 1])
end
position = 1
for i, key in ipairs(KEYS) do
  local count = tonumber(ARGV[position + 1])
  local fine, reply, stop = pcall(steps[ARGV[position]], key, unpack(ARGV, position + 2, position + 1 + count))
  if not fine then
    if reply == CORRUPT then return redis.error_reply(CORRUPT .. ' ' .. i) end
    if type(reply) == 'table' and reply.err then return reply end
    return redis.error_reply(tostring(reply))
  end
  replies[i] = reply
  if stop then break end
  position = position + 2 + count
end
return replies
