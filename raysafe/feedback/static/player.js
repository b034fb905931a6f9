// Trajectories as pictures, played in step. Pictures come through `load`, which sends the rater's token.

const FRAME_MS = 150;

export class Player {
  constructor(elements, load, failed) {
    Object.assign(this, elements);
    this.load = load;
    this.failed = failed;
    this.tracks = [];
    this.timer = null;
    this.play.addEventListener("click", () => this.toggle());
    this.back.addEventListener("click", () => this.step(-1));
    this.forward.addEventListener("click", () => this.step(1));
    this.position.addEventListener("input", () => { this.pause(); this.show(Number(this.position.value)); });
  }

  // images: an <img> a side; counts: its number of frames
  open(item, images, counts) {
    this.close();
    this.tracks = images.map((image, side) => ({ image, side, count: counts[side], urls: new Map() }));
    this.item = item;
    this.last = Math.max(...counts) - 1;
    this.position.max = String(this.last);
    this.box.hidden = false;
    this.show(0);
  }

  close() {
    this.pause();
    for (const track of this.tracks) {
      for (const url of track.urls.values()) url.then(URL.revokeObjectURL, () => {});
    }
    this.tracks = [];
    this.box.hidden = true;
  }

  get isOpen() { return this.tracks.length > 0; }

  async show(index) {
    this.index = Math.min(Math.max(index, 0), this.last);
    this.position.value = String(this.index);
    this.positionText.textContent = `${this.index + 1} of ${this.last + 1}`;
    const item = this.item;
    const wanted = this.index;
    try {
      // the shorter one stays at its last frame
      await Promise.all(this.tracks.map(async (track) => {
        const place = Math.min(wanted, track.count - 1);
        const url = await this.url(track, place);
        if (this.item !== item || this.index !== wanted) return;
        track.image.src = url;
        track.image.alt = `Frame ${place + 1} of ${track.count}`;
        if (place + 1 < track.count) this.url(track, place + 1).catch(() => {});
      }));
    } catch (error) {
      this.pause();
      this.failed(error);
    }
  }

  url(track, place) {
    if (!track.urls.has(place)) {
      const url = this.load(this.item, track.side, place).then((blob) => URL.createObjectURL(blob));
      url.catch(() => track.urls.delete(place));
      track.urls.set(place, url);
    }
    return track.urls.get(place);
  }

  step(by) { this.pause(); this.show(this.index + by); }

  toggle() {
    if (this.timer !== null) { this.pause(); return; }
    this.play.textContent = "Pause";
    const from = this.index === this.last ? 0 : this.index;
    const run = async (index) => {
      const began = performance.now();
      await this.show(index);
      if (this.timer === null) return;
      if (index >= this.last) { this.pause(); return; }
      this.timer = setTimeout(() => run(index + 1), Math.max(0, FRAME_MS - (performance.now() - began)));
    };
    this.timer = 0;
    run(from);
  }

  pause() {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.play.textContent = "Play";
  }
}
