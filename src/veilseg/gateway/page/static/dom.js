/** Elements, found and made. Text is always text: nothing here reads HTML. */

export const one = (id) => document.getElementById(id);

/** An element with properties, and children that are elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const rgb = (colour) => `rgb(${colour.join(" ")})`;

/** Bytes as people say them. */
export function bytes(count) {
  for (const unit of ["bytes", "kB", "MB"]) {
    if (count < 1000) return `${unit === "bytes" ? count : count.toPrecision(3)} ${unit}`;
    count /= 1000;
  }
  return `${count.toPrecision(3)} GB`;
}

export const many = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
