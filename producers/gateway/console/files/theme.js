// Before the page is drawn, so that it does not flash in the other theme.
const wanted = localStorage.getItem("inflight-theme");
if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;
