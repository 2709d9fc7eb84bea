/** What went wrong, in one line, and what can be done. */

import { one } from "./dom.js";

// By status, or what this page calls it: a title, what may help, and whether trying again does.
const KINDS = {
  file: ["This cannot be used", "Drop one scan: NIfTI, one DICOM series as a folder or zip, or PNG.", false],
  page: ["The page failed", "Reload it, and choose the scan again.", false],
  cancelled: ["Cancelled", "Tiles that had been sent by then cannot be taken back.", true],
  0: ["The gateway does not answer", "Is veilseg gateway still running?", true],
  400: ["This scan cannot be used", "Nothing was sent.", true],
  403: ["Not allowed", "The token is not for this.", false],
  404: ["No longer there", "Scans are deleted after a while. Try again brings it anew.", true],
  408: ["It took too long to arrive", "", true],
  409: [
    "A different proxy of this person was sent before",
    "Two different proxies of one person can be averaged, and then show more of both.",
    false,
  ],
  413: ["Too large", "The gateway's operator chooses the limit.", false],
  429: ["Too many scans at a time", "", true],
  500: ["The gateway cannot segment at the moment", "Its log says why.", true],
  502: ["The server cannot be used at the moment", "It is away, refused, or answered nonsense.", true],
  503: ["The gateway is about to end", "", true],
  504: ["It took too long", "", true],
  507: ["No room", "The gateway keeps too much at the moment.", true],
};
const OTHER = ["It failed", "", true];

/** Show an error with its status and message; null takes it away. */
export function show(error) {
  one("problem").hidden = error === null;
  if (error === null) return;
  const [title, help, again] = KINDS[error.status] ?? OTHER;
  one("problem").dataset.status = error.status;
  one("problem-title").textContent = title;
  one("problem-detail").textContent = ["cancelled", 409].includes(error.status) ? "" : error.message;
  one("problem-help").textContent = help;
  one("again").hidden = !again;
  one("repeat").hidden = error.status !== 409;
}
