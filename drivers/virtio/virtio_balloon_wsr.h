/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio balloon: working set reports. The part of the driver behind
 * VIRTIO_BALLOON_F_WORKING_SET; see virtio_balloon_wsr.c.
 */
#ifndef _VIRTIO_BALLOON_WSR_H
#define _VIRTIO_BALLOON_WSR_H

#include <linux/types.h>

struct virtio_balloon_wsr_state;
struct virtio_device;
struct virtqueue;

/**
 * struct virtio_balloon_wsr - what the balloon device keeps for this
 * @state: NULL without VIRTIO_BALLOON_F_WORKING_SET
 *
 * Needs no room without CONFIG_VIRTIO_BALLOON_WSR.
 */
struct virtio_balloon_wsr {
#ifdef CONFIG_VIRTIO_BALLOON_WSR
	struct virtio_balloon_wsr_state *state;
#endif
};

#ifdef CONFIG_VIRTIO_BALLOON_WSR

void virtio_balloon_wsr_validate(struct virtio_device *vdev);
int virtio_balloon_wsr_init(struct virtio_balloon_wsr *wsr,
			    struct virtio_device *vdev);
void virtio_balloon_wsr_set_vq(struct virtio_balloon_wsr *wsr,
			       struct virtqueue *vq);
void virtio_balloon_wsr_changed(struct virtio_balloon_wsr *wsr);
void virtio_balloon_wsr_ack(struct virtio_balloon_wsr *wsr);
void virtio_balloon_wsr_stop(struct virtio_balloon_wsr *wsr);
void virtio_balloon_wsr_quiesce(struct virtio_balloon_wsr *wsr);
void virtio_balloon_wsr_free(struct virtio_balloon_wsr *wsr);

#else /* !CONFIG_VIRTIO_BALLOON_WSR */

static inline void virtio_balloon_wsr_validate(struct virtio_device *vdev)
{
}

static inline int virtio_balloon_wsr_init(struct virtio_balloon_wsr *wsr,
					  struct virtio_device *vdev)
{
	return 0;
}

static inline void virtio_balloon_wsr_changed(struct virtio_balloon_wsr *wsr)
{
}

static inline void virtio_balloon_wsr_stop(struct virtio_balloon_wsr *wsr)
{
}

static inline void virtio_balloon_wsr_quiesce(struct virtio_balloon_wsr *wsr)
{
}

static inline void virtio_balloon_wsr_free(struct virtio_balloon_wsr *wsr)
{
}

#endif /* CONFIG_VIRTIO_BALLOON_WSR */

#endif /* _VIRTIO_BALLOON_WSR_H */
