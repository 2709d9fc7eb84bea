/** What a person drops or chooses: one image, as the files that it is of. */

import { bytes, many } from "./dom.js";

// Of these one file is an image; anything else is DICOM's, whose files often have no ending.
const IMAGES = /\.(nii|nii\.gz|png|zip)$/i;
const HIDDEN = /^(\.|dicomdir$|thumbs\.db$)/i;

/** Everything in a drop, folders to the bottom. To be called while the event lasts. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return { name: transfer.files[0]?.name ?? "", files: [...transfer.files] };
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return { name: entries[0].name, files };
}

/** What an input holds; a chosen folder is called by its own name. */
export function picked(input) {
  const files = [...input.files];
  const folder = files[0]?.webkitRelativePath?.split("/")[0];
  return { name: folder || files[0]?.name || "", files };
}

/**
 * The scan in it.
 *
 * Throws an Error in words for people where that is none.
 */
export function scan({ name, files }, limits) {
  const kept = files.filter((file) => !HIDDEN.test(file.name));
  const images = kept.filter((file) => IMAGES.test(file.name));
  if (!kept.length) throw new Error("There is no file in it.");
  if (images.length && images.length < kept.length)
    throw new Error("It holds images and other files: drop one scan at a time.");
  const channels = images.every((file) => /_\d{4}\./.test(file.name));
  if (images.length > 1 && !channels)
    throw new Error(
      `It holds ${images.length} images: drop one, or the channels of one as CASE_0000, CASE_0001, …`,
    );
  if (kept.length > limits.upload_files) throw new Error(`It holds more than ${limits.upload_files} files.`);
  const size = kept.reduce((sum, file) => sum + file.size, 0);
  if (size > limits.upload_bytes) throw new Error(`It is larger than ${bytes(limits.upload_bytes)}.`);
  if (!size) throw new Error("It is empty.");
  const what = images.length ? "" : kept.length > 1 ? `DICOM, ${many(kept.length, "file")}, ` : "DICOM, ";
  return {
    name,
    stem: name.replace(/\.(nii\.gz|nii|png|zip|dcm)$/i, "") || "scan",
    what: `${what}${bytes(size)}`,
    files: kept.map((file) => ({ file, name: `image${told(file.name, images.length > 0)}` })),
  };
}

/** What the gateway needs of a name: its ending, or a channel's number. Names say who somebody is. */
function told(name, isImage) {
  if (!isImage) return name.toLowerCase().endsWith(".dcm") ? ".dcm" : "";
  return name.match(/(_\d{4})?(\.nii\.gz|\.\w+)$/)[0];
}

async function walk(entry, found) {
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  while (true) {
    // A hundred at a time, until there are none.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await walk(inner, found);
  }
}
