# SPDX-License-Identifier: GPL-2.0
"""A virtio device outside of QEMU, for tests: the back-end side of vhost-user.

    QEMU <-- unix socket --> Backend --calls--> Device (what the test wants)
      |                         |                  |
      '---- guest memory ---- Memory <---------- Queue (a split virtqueue)

Backend and Queue keep to the rules; a device that does not is the test's. The
protocol is described in QEMU's docs/interop/vhost-user.rst.

QEMU needs guest memory that can be shared and the generic vhost-user device:
qemu_arguments().
"""

import collections
import mmap
import os
import selectors
import socket
import struct
import threading

# Messages of QEMU
GET_FEATURES = 1
SET_FEATURES = 2
SET_MEM_TABLE = 5
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
GET_PROTOCOL_FEATURES = 15
GET_QUEUE_NUM = 17
SET_BACKEND_REQ_FD = 21
GET_CONFIG = 24
SET_CONFIG = 25
# Message to QEMU, through the channel that it gives with SET_BACKEND_REQ_FD
CONFIG_CHANGED = 2

VERSION = 1
FLAG_REPLY = 1 << 2
FLAG_NEED_REPLY = 1 << 3
NO_FD = 1 << 8

F_PROTOCOL_FEATURES = 1 << 30
PROTOCOL_MQ = 1 << 0
PROTOCOL_REPLY_ACK = 1 << 3
PROTOCOL_BACKEND_REQ = 1 << 5
PROTOCOL_CONFIG = 1 << 9
PROTOCOL_FEATURES = (PROTOCOL_MQ | PROTOCOL_REPLY_ACK | PROTOCOL_BACKEND_REQ |
                     PROTOCOL_CONFIG)

HEADER = struct.Struct("<III")  # request, flags, size of the payload
U64 = struct.Struct("<Q")
VRING_STATE = struct.Struct("<II")
VRING_ADDRESS = struct.Struct("<IIQQQQ")
REGION = struct.Struct("<QQQQ")
CONFIG = struct.Struct("<III")  # offset, size, flags

VIRTIO_F_VERSION_1 = 1 << 32

DESCRIPTOR = struct.Struct("<QIHH")
DESCRIPTOR_NEXT = 1
DESCRIPTOR_WRITE = 2

# A chain of the queue: its first descriptor, the bytes of the readable ones,
# and [(guest physical address, length)] of the writable ones
Buffer = collections.namedtuple("Buffer", "head data writable")


def qemu_arguments(name, memory, *devices):
    """Arguments for guest memory of this size ("512M") and devices: each is
    ("ID of the socket", properties of vhost-user-device-pci)."""
    arguments = ["-object",
                 f"memory-backend-memfd,id={name},size={memory},share=on",
                 "-machine", f"memory-backend={name}"]
    for socket_name, properties in devices:
        arguments += [
            "-chardev", f"socket,id={socket_name},path={socket_name},"
            "abstract=on",
            "-device", f"vhost-user-device-pci,chardev={socket_name},"
            f"{properties}"]
    return arguments


class Memory:
    """The guest's memory, by physical addresses."""

    Region = collections.namedtuple("Region", "start size user data")

    def __init__(self):
        self._regions = []

    def replace(self, payload, fds):
        """Takes what SET_MEM_TABLE says."""
        for region in self._regions:
            region.data.close()
        self._regions = []
        count = struct.unpack_from("<I", payload)[0]
        for i in range(count):
            start, size, user, offset = REGION.unpack_from(
                payload, 8 + i * REGION.size)
            self._regions.append(self.Region(
                start, size, user, mmap.mmap(fds[i], size, offset=offset)))

    def physical(self, user):
        """The physical address of an address in QEMU."""
        for region in self._regions:
            if region.user <= user < region.user + region.size:
                return user - region.user + region.start
        raise ValueError(f"no guest memory at QEMU's address {user:#x}")

    def _find(self, address, size):
        for region in self._regions:
            offset = address - region.start
            if 0 <= offset and offset + size <= region.size:
                return region.data, offset
        raise ValueError(f"no guest memory at {address:#x}")

    def read(self, address, size):
        data, offset = self._find(address, size)
        return data[offset:offset + size]

    def write(self, address, content):
        data, offset = self._find(address, len(content))
        data[offset:offset + len(content)] = content

    def read_u16(self, address):
        return int.from_bytes(self.read(address, 2), "little")

    def write_u16(self, address, value):
        self.write(address, (value & 0xffff).to_bytes(2, "little"))


class Queue:
    """A split virtqueue. Each call is whole by itself; the caller holds the
    backend's lock."""

    def __init__(self, index, memory):
        self.index = index
        self.size = 0
        self.running = False
        self.memory = memory
        self._next = 0  # entry of the available ring to be looked at next
        self._descriptors = self._available = self._used = 0
        self._user = None  # QEMU's addresses of the three
        self.kick = self.call = None  # eventfds

    def set_addresses(self, descriptors, used, available):
        self._user = (descriptors, available, used)

    def start(self):
        self._descriptors, self._available, self._used = map(
            self.memory.physical, self._user)
        self.running = True

    def set_next(self, index):
        self._next = index

    def stop(self):
        """Returns the index of the next entry, for set_next()."""
        self.running = False
        return self._next

    def pop(self):
        """The next buffer of the driver, None if there is none."""
        if self.memory.read_u16(self._available + 2) == self._next:
            return None
        head = self.memory.read_u16(
            self._available + 4 + 2 * (self._next % self.size))
        self._next = (self._next + 1) & 0xffff

        data = b""
        writable = []
        descriptor = head
        for _ in range(self.size):
            address, length, flags, following = DESCRIPTOR.unpack(
                self.memory.read(
                    self._descriptors + DESCRIPTOR.size * descriptor,
                    DESCRIPTOR.size))
            if flags & DESCRIPTOR_WRITE:
                writable.append((address, length))
            else:
                data += self.memory.read(address, length)
            if not flags & DESCRIPTOR_NEXT:
                return Buffer(head, data, writable)
            descriptor = following
        raise ValueError("the chain of descriptors has no end")

    def driver_areas(self):
        """[(address, size)] of what only the driver may write."""
        return [(self._descriptors, DESCRIPTOR.size * self.size),
                (self._available, 4 + 2 * self.size)]

    def use(self, head, length=0):
        """Puts an entry into the used ring and interrupts the driver."""
        index = self.memory.read_u16(self._used + 2)
        self.memory.write(self._used + 4 + 8 * (index % self.size),
                           struct.pack("<II", head, length))
        self.add_used(1)

    def add_used(self, entries):
        """Says that there are more used entries, whatever is in them."""
        self.memory.write_u16(
            self._used + 2, self.memory.read_u16(self._used + 2) + entries)
        self.interrupt()

    def interrupt(self):
        if self.call is not None:
            os.eventfd_write(self.call, 1)


class Device:
    """What Backend asks of a device; called with the backend's lock held, by
    its thread, while QEMU waits."""

    features = 0  # VIRTIO_F_VERSION_1 and the like are not implied
    nr_queues = 1

    def read_config(self, size):
        """The first bytes of the configuration space."""
        return bytes(size)

    def write_config(self, offset, data):
        """The driver has written (QEMU always passes on all of it)."""

    def kicked(self, queue):
        """The driver has put something into a queue."""


class Backend:
    """Serves one device to one QEMU, in a thread of its own."""

    def __init__(self, name, device):
        """name: of the abstract unix socket that QEMU connects to"""
        self.device = device
        self.lock = threading.RLock()
        self.memory = Memory()
        self.queues = [Queue(i, self.memory) for i in range(device.nr_queues)]
        self.failure = None  # why the thread has ended early
        self._to_qemu = None
        self._connection = None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("\0" + name)
        self._listener.listen(1)
        threading.Thread(target=self._run, daemon=True).start()

    def config_changed(self):
        """Tells the driver to read the configuration space. Must be called
        without the lock: QEMU may be waiting for an answer of ours."""
        if self._to_qemu:
            self._to_qemu.sendall(HEADER.pack(CONFIG_CHANGED, VERSION, 0))

    # The thread

    def _run(self):
        try:
            with self._listener:
                self._connection, _ = self._listener.accept()
            self._selector.register(self._connection, selectors.EVENT_READ)
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._connection:
                        self._message()
                    else:
                        self._kick(key)
        except (EOFError, ConnectionError):
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
            raise
        finally:
            self._connection.close()

    def _kick(self, key):
        with self.lock:
            try:
                os.eventfd_read(key.fd)
            except BlockingIOError:
                return
            if key.data.running:
                self.device.kicked(key.data)

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self._connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _message(self):
        header, fds, _, _ = socket.recv_fds(self._connection, HEADER.size, 8)
        if not header:
            raise EOFError
        header += self._receive(HEADER.size - len(header))
        request, flags, size = HEADER.unpack(header)
        payload = self._receive(size)
        with self.lock:
            reply = self._handle(request, payload, fds)
        if reply is None and flags & FLAG_NEED_REPLY:
            reply = U64.pack(0)  # success
        if reply is not None:
            self._connection.sendall(
                HEADER.pack(request, VERSION | FLAG_REPLY, len(reply)) + reply)

    def _handle(self, request, payload, fds):
        """Returns the payload of the reply, None if there is none."""
        if request == GET_FEATURES:
            return U64.pack(self.device.features | F_PROTOCOL_FEATURES)
        if request == GET_PROTOCOL_FEATURES:
            return U64.pack(PROTOCOL_FEATURES)
        if request == GET_QUEUE_NUM:
            return U64.pack(len(self.queues))
        if request == SET_BACKEND_REQ_FD:
            self._to_qemu = socket.socket(fileno=fds[0])
        elif request == SET_MEM_TABLE:
            self.memory.replace(payload, fds)
            for fd in fds:
                os.close(fd)
        elif request == GET_CONFIG:
            offset, size, _ = CONFIG.unpack_from(payload)
            config = self.device.read_config(offset + size)[offset:]
            return payload[:CONFIG.size] + config
        elif request == SET_CONFIG:
            offset, size, _ = CONFIG.unpack_from(payload)
            self.device.write_config(
                offset, payload[CONFIG.size:CONFIG.size + size])
        elif request in (SET_VRING_KICK, SET_VRING_CALL):
            self._set_eventfd(request, U64.unpack(payload)[0], fds)
        elif request == SET_VRING_ADDR:
            index, _, descriptors, used, available, _ = \
                VRING_ADDRESS.unpack(payload)
            self.queues[index].set_addresses(descriptors, used, available)
        elif request == SET_VRING_NUM:
            index, size = VRING_STATE.unpack(payload)
            self.queues[index].size = size
        elif request == SET_VRING_BASE:
            index, start = VRING_STATE.unpack(payload)
            self.queues[index].set_next(start)
        elif request == GET_VRING_BASE:
            index, _ = VRING_STATE.unpack(payload)
            queue = self.queues[index]
            self._drop(queue, "kick")
            return VRING_STATE.pack(index, queue.stop())
        # Of the others (owner, features, enable) nothing follows for us.
        return None

    def _drop(self, queue, name):
        fd = getattr(queue, name)
        if fd is None:
            return
        if name == "kick":
            self._selector.unregister(fd)
        os.close(fd)
        setattr(queue, name, None)

    def _set_eventfd(self, request, word, fds):
        queue = self.queues[word & 0xff]
        name = "kick" if request == SET_VRING_KICK else "call"
        self._drop(queue, name)
        if word & NO_FD:
            return
        setattr(queue, name, fds[0])
        if name == "kick":
            # The queue starts when its kick arrives.
            os.set_blocking(fds[0], False)
            self._selector.register(fds[0], selectors.EVENT_READ, queue)
            queue.start()
            self.device.kicked(queue)
        else:
            # What was used before there was somebody to tell
            queue.interrupt()
