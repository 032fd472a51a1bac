/*
 * Fuzzing target for the working set queue of virtio-balloon
 *
 * An input is a byte that says what the driver accepts, and then buffers for
 * the queue, each after a BufferHdr.  Reports must be returned whatever is in
 * them, and the last good one must be readable through QOM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/virtio/virtio-balloon.h"
#include "qobject/qobject.h"
#include "qom/qom-qobject.h"
#include "standard-headers/linux/virtio_config.h"
#include "tests/qtest/libqos/virtio-balloon.h"
#include "fuzz.h"
#include "qos_fuzz.h"

/* First byte of the input */
#define REFUSE_FEATURE 0x01

typedef struct BufferHdr {
    /* number of descriptors - 1, and flags */
    uint8_t parts;
#define PARTS_MASK 0x03
#define LAST_IS_WRITABLE 0x80
    uint8_t reserved;
    /* of the data that follow, little-endian */
    uint16_t length;
} BufferHdr;

/* After the queues that each device has */
#define WORKING_SET_VQ 3
#define TIMEOUT_US (30 * 1000 * 1000)

static Object *balloon_object;
/* Guest memory for one buffer */
static uint64_t buffer_addr;

static void wait_used(QTestState *s, QVirtQueue *vq)
{
    gint64 start = g_get_monotonic_time();
    uint32_t head, length;

    while (!qvirtqueue_get_buf(s, vq, &head, &length)) {
        g_assert_cmpint(g_get_monotonic_time() - start, <, TIMEOUT_US);
        flush_events(s);
    }
    g_assert_cmpint(head, ==, 0);
    g_assert_cmpint(length, ==, 0);
}

static void send_buffer(QTestState *s, QVirtioDevice *dev, QVirtQueue *vq,
                        uint8_t parts, const uint8_t *data, size_t length)
{
    unsigned int nr = 1 + (parts & PARTS_MASK);
    unsigned int i;

    /* An empty descriptor is an error that virtio itself detects. */
    if (length < nr) {
        return;
    }
    qtest_memwrite(s, buffer_addr, data, length);
    vq->free_head = 0;
    for (i = 0; i < nr; i++) {
        size_t start = length * i / nr;
        size_t end = length * (i + 1) / nr;
        bool last = i == nr - 1;

        qvirtqueue_add(s, vq, buffer_addr + start, end - start,
                       last && (parts & LAST_IS_WRITABLE), !last);
    }
    qvirtqueue_kick(s, dev, vq, 0);
    wait_used(s, vq);
}

static void read_report(void)
{
    qobject_unref(object_property_get_qobject(balloon_object,
                                              "guest-working-set",
                                              &error_abort));
}

static void virtio_balloon_fuzz(QTestState *s, const unsigned char *data,
                                size_t size)
{
    QVirtioBalloon *balloon = fuzz_qos_obj;
    QVirtioDevice *dev = balloon->vdev;
    uint64_t refused = QVIRTIO_F_BAD_FEATURE |
                       (1ull << VIRTIO_RING_F_INDIRECT_DESC) |
                       (1ull << VIRTIO_RING_F_EVENT_IDX);
    QVirtQueue *vq;

    if (!size) {
        return;
    }
    if (*data & REFUSE_FEATURE) {
        refused |= 1ull << VIRTIO_BALLOON_F_WORKING_SET;
    }
    data++;
    size--;

    qvirtio_start_device(dev);
    qvirtio_set_features(dev, qvirtio_get_features(dev) & ~refused);
    vq = qvirtqueue_setup(dev, fuzz_qos_alloc, WORKING_SET_VQ);
    qvirtio_set_driver_ok(dev);

    while (size >= sizeof(BufferHdr)) {
        BufferHdr hdr;
        size_t length;

        memcpy(&hdr, data, sizeof(hdr));
        data += sizeof(hdr);
        size -= sizeof(hdr);
        length = MIN(le16_to_cpu(hdr.length), size);
        send_buffer(s, dev, vq, hdr.parts, data, length);
        read_report();
        data += length;
        size -= length;
    }

    qvirtqueue_cleanup(dev->bus, vq, fuzz_qos_alloc);
    qvirtio_reset(dev);
}

static void virtio_balloon_pre_fuzz(QTestState *s)
{
    qos_init_path(s);
    buffer_addr = guest_alloc(fuzz_qos_alloc, UINT16_MAX);
    balloon_object = object_resolve_path_type("", TYPE_VIRTIO_BALLOON, NULL);
    g_assert_nonnull(balloon_object);
}

static void register_virtio_balloon_fuzz_targets(void)
{
    fuzz_add_qos_target(&(FuzzTarget){
            .name = "virtio-balloon-working-set",
            .description = "Fuzz the working set queue of virtio-balloon",
            .pre_fuzz = virtio_balloon_pre_fuzz,
            .fuzz = virtio_balloon_fuzz,
        },
        "virtio-balloon",
        &(QOSGraphTestOptions){
            .edge.extra_device_opts = "working-set-reporting=on,"
                                      "working-set-reclaim=on",
            .edge.after_cmd_line = "-nodefaults",
        });
}

fuzz_target_init(register_virtio_balloon_fuzz_targets);
