"""The scripts that change tasks in a Redis or Valkey server.

Owns the layout of the keys and every rule that must hold for several processes at once: who holds a task,
under which claim, and that a final record never changes. Knows no connection.

All keys begin with the prefix in braces, so that in a cluster they share one slot:

    t:ID      a task: its record and what belongs to it (see `_COMMON`)
    t:ID:r    a stream of its reports, whose ids are their offsets
    t:ID:a    the answers to its questions
    expiry    every task, by the time at which it expires
    all, o:X  the tasks that are listed: those of everybody, and of one owner
    k:KEY     the id of the task that was created with that key
    q:TOOL    the queue, in the order in which tasks came; w:TOOL those that wait until they are ready
    holders   processes that may hold tasks, by the end of their leases
    dead      those whose tasks are being taken over
    held:X    the tasks that the process X holds

Channels: c:ID tells of a task, h:X what others did to the tasks of the process X, "queued" of the queue,
"leases" of a process whose lease may be the first to end.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

RECORD_IN_MESSAGE: Final = 16_384
"""A record up to so many bytes is published itself; of a larger one readers hear only that it has changed."""

GRACE_SECONDS: Final = 3600
"""How long after a task has expired the server drops it by itself, if no process has done so before."""

OWNER_CHARACTERS: Final = 32
"""The length of the names of owners in keys, which are hashes."""

# The fields of a task: r record, v version, h holder ("" for nobody), c claim, o offset of the newest report,
# q the keys of its questions as JSON, d expires at (us, "" for never), w work, p checkpoint, t tool,
# y ready at (us), s place in the queue, m place in lists, i owner, k key, l whether it is listed, f whether
# it is final. Times that come as arguments are microseconds since 1970; they fit into the doubles of Lua.
_COMMON: Final = """
local root = KEYS[1]
local call = redis.call

local function number(value) return string.format('%.0f', value) end

local function server_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_alive(holder)
  local lease = call('ZSCORE', root .. 'holders', holder)
  return lease and tonumber(lease) > server_ms()
end

local function tell(id, record)
  call('PUBLISH', root .. 'c:' .. id, #record <= @MESSAGE@ and record or '')
end

local function tell_holder(holder, me, id)
  if holder ~= '' and holder ~= me then call('PUBLISH', root .. 'h:' .. holder, id) end
end

local function keep_until(key, expires)
  if expires == '' then call('PERSIST', key)
  else call('PEXPIREAT', key, number(math.floor(expires / 1000) + @GRACE@ * 1000)) end
end

local function set_expiry(id, owner, key, expires)
  call('ZADD', root .. 'expiry', expires == '' and '+inf' or expires, owner .. id)
  local task = root .. 't:' .. id
  keep_until(task, expires)
  keep_until(task .. ':r', expires)
  keep_until(task .. ':a', expires)
  if key ~= '' then keep_until(root .. 'k:' .. key, expires) end
end

local function dequeue(id, tool)
  call('ZREM', root .. 'q:' .. tool, id)
  call('ZREM', root .. 'w:' .. tool, id)
end

local function enqueue(id, tool, ready)
  local place = call('INCR', root .. 'queue-place')
  call('HSET', root .. 't:' .. id, 'h', '', 's', place, 'y', ready)
  if ready == '' then call('ZADD', root .. 'q:' .. tool, place, id)
  else call('ZADD', root .. 'w:' .. tool, ready, id) end
  call('PUBLISH', root .. 'queued', tool)
end

-- After this, the task is held by nobody, and what only its handler needs is forgotten.
local function finish(id, holder, tool, work)
  local task = root .. 't:' .. id
  call('HSET', task, 'h', '', 'y', '', 'f', '1')
  call('HDEL', task, 'p', 'w')
  if work ~= '' then call('HSET', task, 'w', work) end
  call('DEL', task .. ':a')
  if holder ~= '' then call('SREM', root .. 'held:' .. holder, id) end
  dequeue(id, tool)
end

local function set_record(id, record, version, questions, expires)
  local task = root .. 't:' .. id
  local old = call('HMGET', task, 'd', 'i', 'k')
  call('HSET', task, 'r', record, 'v', version, 'q', questions, 'd', expires)
  if old[1] ~= expires then set_expiry(id, old[2], old[3], expires) end
  tell(id, record)
end

local function forget(id, me)
  local task = root .. 't:' .. id
  local t = call('HMGET', task, 'i', 'm', 'k', 't', 'h')
  if not t[1] then return false end
  call('ZREM', root .. 'expiry', t[1] .. id)
  call('ZREM', root .. 'all', t[2])
  call('ZREM', root .. 'o:' .. t[1], t[2])
  if t[3] ~= '' and call('GET', root .. 'k:' .. t[3]) == id then call('DEL', root .. 'k:' .. t[3]) end
  dequeue(id, t[4])
  if t[5] ~= '' then call('SREM', root .. 'held:' .. t[5], id) end
  call('DEL', task, task .. ':r', task .. ':a')
  call('PUBLISH', root .. 'c:' .. id, '-')
  tell_holder(t[5], me, id)
  return true
end
""".replace("@MESSAGE@", str(RECORD_IN_MESSAGE)).replace("@GRACE@", str(GRACE_SECONDS))


@attrs.frozen
class Script:
    """A script as the server gets it, and the hash by which the server knows it."""

    text: bytes
    sha: bytes


def _script(body: str, *, allow_full: bool = False) -> Script:
    # A server whose memory is full must still let go of what it has.
    flags = "#!lua flags=allow-oom\n" if allow_full else "#!lua\n"
    text = (flags + _COMMON + body).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


# Returns a number of `Standing`. Those who wait for the end of a lease hear of a new one only if they may
# know of none; otherwise they look again in time.
RENEW: Final = _script(
    """
local holder, milliseconds, is_new, may_rest = unpack(ARGV)
local holders = root .. 'holders'
if is_new == '0' and not is_alive(holder) then return 0 end
if may_rest == '1' and call('EXISTS', root .. 'held:' .. holder) == 0 then
  call('ZREM', holders, holder)
  return 2
end
local known = call('ZCARD', holders)
call('ZADD', holders, number(server_ms() + milliseconds), holder)
if is_new == '1' and known <= 1 then call('PUBLISH', root .. 'leases', holder) end
return 1
""",
    allow_full=True,
)

LEAVE: Final = _script(
    """
local holder, holders = ARGV[1], root .. 'holders'
if not call('ZSCORE', holders, holder) then return end
if call('EXISTS', root .. 'held:' .. holder) == 0 then
  call('ZREM', holders, holder)
else
  call('ZADD', holders, 0, holder)
  call('PUBLISH', root .. 'leases', holder)
end
""",
    allow_full=True,
)

CREATE: Final = _script("""
local id, record, version, is_final, holder, work, tool = unpack(ARGV, 1, 7)
local owner, moment, listed, expires, key, questions, cap, created, queued = unpack(ARGV, 8, 16)
if not is_alive(holder) then return {'dead'} end
if key ~= '' then
  local other = call('GET', root .. 'k:' .. key)
  local until_us = other and call('HGET', root .. 't:' .. other, 'd')
  if until_us then
    if until_us == '' or tonumber(until_us) > tonumber(created) then return {'known', other} end
    forget(other, holder)
  end
end
local task = root .. 't:' .. id
if call('EXISTS', task) == 1 then return {'exists'} end
if call('ZCARD', root .. 'expiry') >= tonumber(cap) then return {'full'} end
local place = moment .. string.format('%016.0f', call('INCR', root .. 'places')) .. id
local runs = is_final == '0' and queued == '0'
call('HSET', task, 'r', record, 'v', version, 'h', runs and holder or '', 'c', runs and 1 or 0, 'o', 0,
  'q', questions, 'd', expires, 't', tool, 'm', place, 'i', owner, 'k', key, 'l', listed, 'y', '',
  'f', is_final)
if work ~= '' then call('HSET', task, 'w', work) end
if key ~= '' then call('SET', root .. 'k:' .. key, id) end
if listed == '1' then
  call('ZADD', root .. 'all', 0, place)
  call('ZADD', root .. 'o:' .. owner, 0, place)
end
set_expiry(id, owner, key, expires)
if runs then call('SADD', root .. 'held:' .. holder, id) elseif queued == '1' then enqueue(id, tool, '') end
return {'new'}
""")

PUT: Final = _script("""
local id, holder, claim, version, record, is_final, expires, questions = unpack(ARGV, 1, 8)
local unlisted, has_checkpoint, checkpoint, cap = unpack(ARGV, 9, 12)
local task = root .. 't:' .. id
local t = call('HMGET', task, 'h', 'c', 'v', 'o', 't', 'l')
if t[1] ~= holder or t[2] ~= claim then return 'lost' end
if tonumber(version) <= tonumber(t[3]) then return 'old' end
if has_checkpoint == '1' then call('HSET', task, 'p', checkpoint) end
local newest = tonumber(t[4])
for i = 13, #ARGV, 2 do
  if tonumber(ARGV[i]) > newest then
    newest = tonumber(ARGV[i])
    call('XADD', task .. ':r', 'MAXLEN', '=', cap, ARGV[i] .. '-0', 'r', ARGV[i + 1])
  end
end
if newest > tonumber(t[4]) then
  call('HSET', task, 'o', number(newest))
  if t[4] == '0' then keep_until(task .. ':r', call('HGET', task, 'd')) end
end
if is_final == '1' then finish(id, holder, t[5], t[6] == '0' and unlisted or '') end
set_record(id, record, version, questions, expires)
return 'kept'
""")

RELEASE: Final = _script("""
local id, holder, claim, version, record, ready, expires, questions = unpack(ARGV, 1, 8)
local task = root .. 't:' .. id
local t = call('HMGET', task, 'h', 'c', 'v', 't')
if t[1] ~= holder or t[2] ~= claim then return 'lost' end
call('SREM', root .. 'held:' .. holder, id)
if tonumber(version) > tonumber(t[3]) then set_record(id, record, version, questions, expires) end
enqueue(id, t[4], ready)
return 'kept'
""")

# What was claimed, or created, by a call whose answer was lost: nobody will run it.
RETURN: Final = _script(
    """
local id, holder, is_new = ARGV[1], ARGV[2], ARGV[3]
local t = call('HMGET', root .. 't:' .. id, 'h', 'c', 'v', 't')
if is_new == '1' then
  if t[2] == '0' or (t[1] == holder and t[2] == '1') then forget(id, holder) end
elseif t[1] == holder then
  call('SREM', root .. 'held:' .. holder, id)
  enqueue(id, t[4], '')
end
""",
    allow_full=True,
)

CLAIM: Final = _script("""
local holder, now, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not is_alive(holder) then return false end
local found = {}
for i = 4, #ARGV do
  local queue, waiting = root .. 'q:' .. ARGV[i], root .. 'w:' .. ARGV[i]
  for _, id in ipairs(call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, 1000)) do
    call('ZREM', waiting, id)
    local place = call('HGET', root .. 't:' .. id, 's')
    if place then call('ZADD', queue, place, id) end
  end
  local head = call('ZRANGE', queue, 0, limit - 1, 'WITHSCORES')
  for j = 1, #head, 2 do found[#found + 1] = {tonumber(head[j + 1]), head[j], queue} end
end
table.sort(found, function(one, other) return one[1] < other[1] end)
local claimed = {}
for i = 1, math.min(limit, #found) do
  local id, task = found[i][2], root .. 't:' .. found[i][2]
  call('ZREM', found[i][3], id)
  local expires = call('HGET', task, 'd')
  if expires and (expires == '' or tonumber(expires) > tonumber(now)) then
    call('HSET', task, 'h', holder, 'y', '')
    call('HINCRBY', task, 'c', 1)
    call('SADD', root .. 'held:' .. holder, id)
    claimed[#claimed + 1] = id
  end
end
return claimed
""")

# Until when the queue has nothing: "0" if there is something now, "" if nothing waits.
PEEK: Final = _script("""
local first = ''
for i = 1, #ARGV do
  if call('EXISTS', root .. 'q:' .. ARGV[i]) == 1 then return '0' end
  local next = call('ZRANGE', root .. 'w:' .. ARGV[i], 0, 0, 'WITHSCORES')[2]
  if next and (first == '' or tonumber(next) < tonumber(first)) then first = next end
end
return first
""")

ANSWER: Final = _script("""
local id, me, now = ARGV[1], ARGV[2], ARGV[3]
local task = root .. 't:' .. id
local t = call('HMGET', task, 'f', 'd', 'q', 'h')
if t[1] ~= '0' or (t[2] ~= '' and tonumber(t[2]) <= tonumber(now)) then return end
local asked = {}
for _, key in ipairs(cjson.decode(t[3])) do asked[key] = true end
local kept = false
for i = 4, #ARGV, 2 do
  if asked[ARGV[i]] and call('HSETNX', task .. ':a', ARGV[i], ARGV[i + 1]) == 1 then kept = true end
end
if kept then
  keep_until(task .. ':a', t[2])
  tell_holder(t[4], me, id)
end
""")

# A change of the version `seen`, by somebody who need not hold the task; `by`, if given, must hold it.
REPLACE: Final = _script(
    """
local id, me, seen, version, record, is_final, expires, questions, unlisted, by = unpack(ARGV, 1, 10)
local t = call('HMGET', root .. 't:' .. id, 'h', 'v', 't', 'l', 'f')
if not t[1] then return 'gone' end
if t[2] ~= seen or t[5] == '1' or (by ~= '' and t[1] ~= by) then return 'old' end
if is_final == '1' then
  finish(id, t[1], t[3], t[4] == '0' and unlisted or '')
  set_record(id, record, version, questions, expires)
else
  call('SREM', root .. 'held:' .. t[1], id)
  set_record(id, record, version, questions, expires)
  enqueue(id, t[3], '')
end
tell_holder(t[1], me, id)
return 'kept'
""",
    allow_full=True,
)

# One process takes over what a dead one held; if it dies as well, another does, a moment later.
TAKE_DEAD: Final = _script(
    """
local holders, dead, now = root .. 'holders', root .. 'dead', server_ms()
for _, holder in ipairs(call('ZRANGEBYSCORE', holders, '-inf', number(now))) do
  call('ZREM', holders, holder)
  call('ZADD', dead, 0, holder)
end
local first = call('ZRANGEBYSCORE', dead, '-inf', number(now), 'LIMIT', 0, 1)[1]
if not first then return false end
call('ZADD', dead, number(now + 5000), first)
return {first, call('SMEMBERS', root .. 'held:' .. first)}
""",
    allow_full=True,
)

# In how many milliseconds the next process may be dead, and when the first task expires; "" for never.
NEXT_SWEEP: Final = _script(
    """
local me = ARGV[1]
local first = tonumber(call('ZRANGE', root .. 'dead', 0, 0, 'WITHSCORES')[2])
local holders = call('ZRANGE', root .. 'holders', 0, 1, 'WITHSCORES')
for i = 1, #holders, 2 do
  local ends = tonumber(holders[i + 1])
  if holders[i] ~= me and (not first or ends < first) then first = ends end
end
local expiry = call('ZRANGE', root .. 'expiry', 0, 0, 'WITHSCORES')[2]
return {first and number(math.max(first - server_ms(), 0)) or '', expiry or ''}
""",
    allow_full=True,
)

BURY: Final = _script(
    """
call('ZREM', root .. 'dead', ARGV[1])
call('DEL', root .. 'held:' .. ARGV[1])
""",
    allow_full=True,
)

DELETE: Final = _script("return forget(ARGV[1], ARGV[2])", allow_full=True)

EXPIRE: Final = _script(
    """
local me, now, limit = ARGV[1], ARGV[2], ARGV[3]
local ids = {}
for _, member in ipairs(call('ZRANGEBYSCORE', root .. 'expiry', '-inf', now, 'LIMIT', 0, limit)) do
  local id = string.sub(member, @OWNER@ + 1)
  if not forget(id, me) then call('ZREM', root .. 'expiry', member) end
  ids[#ids + 1] = id
end
return ids
""".replace("@OWNER@", str(OWNER_CHARACTERS)),
    allow_full=True,
)

ALL: Final = (
    *(RENEW, LEAVE, CREATE, PUT, RELEASE, RETURN, CLAIM, PEEK),
    *(ANSWER, REPLACE, TAKE_DEAD, NEXT_SWEEP, BURY, DELETE, EXPIRE),
)
